/**
 * Samples of some series over some time as few bytes, for reading: series after series, each as its times and its values, and the whole
 * compressed with zstd.
 *
 *   version · series · for each: distance of its ref from the one before · samples · times · values
 *
 * Times: those of the series before (scrapes have all series in common), or first, step and the changes of the step.
 * Values: one for all; or whole numbers after shifting the decimal point, as differences; or 8 bytes each, those of equal weight
 * side by side, after XOR with the value before.
 */
import { promisify } from "node:util";
import zlib from "node:zlib";
import { ByteReader, ByteWriter } from "./bytes.ts";
import type { SeriesRun } from "./columns.ts";

const version = 1;
const compress = promisify(zlib.zstdCompress);
const decompress = promisify(zlib.zstdDecompress);

const timesAs = { before: 0, regular: 1, changes: 2 } as const;
const valuesAs = { constant: 0, decimal: 1, bits: 2 } as const;

/** Encodes runs in ascending order of `ref`. */
export async function encodeBlock(runs: readonly SeriesRun[]): Promise<Buffer> {
  const size = runs.reduce((sum, { times }) => sum + times.length, 0);
  const writer = new ByteWriter(64 + 16 * runs.length + 8 * size);
  writer.byte(version);
  writer.varint(runs.length);
  let ref = 0;
  let timesBefore = new Float64Array(0);
  for (const { ref: next, times, values } of runs) {
    writer.reserve(64 + 16 * times.length);
    writer.varint(next - ref);
    ref = next;
    writer.varint(times.length);
    writeTimes(writer, times, timesBefore);
    timesBefore = times as Float64Array<ArrayBuffer>;
    writeValues(writer, values);
  }
  return await compress(writer.finish());
}

/** Decodes a block, or of it only the series that are wanted. */
export async function decodeBlock(
  data: Uint8Array,
  wanted?: { has(ref: number): boolean },
): Promise<SeriesRun[]> {
  const reader = new ByteReader(await decompress(data));
  const written = reader.byte();
  if (written !== version) throw new Error(`samples in a form that this version does not know: ${written}`);
  const runs: SeriesRun[] = [];
  let ref = 0;
  let times = new Float64Array(0);
  for (let count = reader.varint(); count > 0; count--) {
    ref += reader.varint();
    const size = reader.varint();
    times = readTimes(reader, size, times);
    if (wanted && !wanted.has(ref)) skipValues(reader, size);
    else runs.push({ ref, times, values: readValues(reader, size) });
  }
  return runs;
}

function writeTimes(writer: ByteWriter, times: Float64Array, before: Float64Array): void {
  if (sameTimes(times, before)) {
    writer.byte(timesAs.before);
    return;
  }
  const first = times[0] as number;
  const step = times.length > 1 ? (times[1] as number) - first : 0;
  let regular = true;
  for (let index = 2; index < times.length && regular; index++) {
    regular = (times[index] as number) - (times[index - 1] as number) === step;
  }
  writer.byte(regular ? timesAs.regular : timesAs.changes);
  writer.signed(first);
  writer.varint(step);
  if (regular) return;
  let stepBefore = step;
  for (let index = 2; index < times.length; index++) {
    const next = (times[index] as number) - (times[index - 1] as number);
    writer.signed(next - stepBefore);
    stepBefore = next;
  }
}

function sameTimes(a: Float64Array, b: Float64Array): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

function readTimes(
  reader: ByteReader,
  size: number,
  before: Float64Array<ArrayBuffer>,
): Float64Array<ArrayBuffer> {
  const form = reader.byte();
  if (form === timesAs.before) return before;
  const times = new Float64Array(size);
  let time = reader.signed();
  let step = reader.varint();
  times[0] = time;
  if (form === timesAs.regular) {
    for (let index = 1; index < size; index++) times[index] = time + index * step;
    return times;
  }
  time += step;
  times[1] = time;
  reader.signedColumn(times, 2);
  for (let index = 2; index < size; index++) {
    step += times[index] as number;
    time += step;
    times[index] = time;
  }
  return times;
}

const maxDecimals = 12;
const powers = Array.from({ length: maxDecimals + 1 }, (_, exponent) => 10 ** exponent);
/** Differences of two such numbers fit the varints. */
const maxWhole = 2 ** 51;

function writeValues(writer: ByteWriter, values: Float64Array): void {
  const first = values[0] as number;
  if (values.every((value) => Object.is(value, first))) {
    writer.byte(valuesAs.constant);
    writer.double(first);
    return;
  }
  const decimals = decimalsOf(values);
  if (decimals === undefined) {
    writer.byte(valuesAs.bits);
    writeBits(writer, values);
    return;
  }
  const power = powers[decimals] as number;
  writer.byte(valuesAs.decimal);
  writer.byte(decimals);
  const length = writer.position;
  writer.position += 4;
  let before = 0;
  for (let index = 0; index < values.length; index++) {
    const whole = Math.round((values[index] as number) * power);
    writer.signed(whole - before);
    before = whole;
  }
  writer.buffer.writeUInt32LE(writer.position - length - 4, length);
}

/** By how many places the decimal point is to be moved so that all become whole and come back exactly; undefined: by none. */
function decimalsOf(values: Float64Array): number | undefined {
  let decimals = 0;
  let power = 1;
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number;
    for (;;) {
      const whole = Math.round(value * power);
      if (Math.abs(whole) > maxWhole) return undefined;
      // A whole 0 would lose the sign of -0, and Object.is tells them apart.
      if (Object.is(whole / power, value)) break;
      if (decimals === maxDecimals) return undefined;
      power = powers[++decimals] as number;
    }
    if (Object.is(value, -0)) return undefined;
  }
  // What became whole with fewer decimals does so with more, unless it grew too large or is rounded otherwise.
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number;
    const whole = Math.round(value * power);
    if (Math.abs(whole) > maxWhole || whole / power !== value) return undefined;
  }
  return decimals;
}

function writeBits(writer: ByteWriter, values: Float64Array): void {
  const size = values.length;
  const words = new Uint32Array(values.slice().buffer);
  const { buffer, position } = writer;
  let [lowBefore, highBefore] = [0, 0];
  for (let index = 0; index < size; index++) {
    const low = words[2 * index] as number;
    const high = words[2 * index + 1] as number;
    let bits = low ^ lowBefore;
    for (let plane = 0; plane < 4; plane++, bits >>>= 8) buffer[position + plane * size + index] = bits & 255;
    bits = high ^ highBefore;
    for (let plane = 4; plane < 8; plane++, bits >>>= 8) buffer[position + plane * size + index] = bits & 255;
    [lowBefore, highBefore] = [low, high];
  }
  writer.position += 8 * size;
}

function readBits(reader: ByteReader, size: number): Float64Array {
  const values = new Float64Array(size);
  const words = new Uint32Array(values.buffer);
  const { buffer, position } = reader;
  const at = (plane: number, index: number) => buffer[position + plane * size + index] as number;
  let [low, high] = [0, 0];
  for (let index = 0; index < size; index++) {
    low ^= at(0, index) | (at(1, index) << 8) | (at(2, index) << 16) | (at(3, index) << 24);
    high ^= at(4, index) | (at(5, index) << 8) | (at(6, index) << 16) | (at(7, index) << 24);
    words[2 * index] = low;
    words[2 * index + 1] = high;
  }
  reader.position += 8 * size;
  return values;
}

function readValues(reader: ByteReader, size: number): Float64Array {
  const form = reader.byte();
  if (form === valuesAs.constant) return new Float64Array(size).fill(reader.double());
  if (form === valuesAs.bits) return readBits(reader, size);
  const power = powers[reader.byte()] as number;
  reader.position += 4;
  const values = new Float64Array(size);
  reader.signedColumn(values, 0);
  let whole = 0;
  for (let index = 0; index < size; index++) {
    whole += values[index] as number;
    values[index] = whole / power;
  }
  return values;
}

function skipValues(reader: ByteReader, size: number): void {
  const form = reader.byte();
  if (form === valuesAs.constant) reader.position += 8;
  else if (form === valuesAs.bits) reader.position += 8 * size;
  else {
    reader.position += 1;
    reader.position += 4 + reader.buffer.readUInt32LE(reader.position);
  }
}
