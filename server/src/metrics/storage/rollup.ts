/**
 * What the samples of a block come to by the hour: written with the block and as unchanging, so that it is right whenever no other
 * block or batch has samples of the same hours.
 */
import { promisify } from "node:util";
import zlib from "node:zlib";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { lowerBound, type SeriesRun } from "./columns.ts";

export const hourMs = 3_600_000;

/** What the samples of a series in one hour come to. */
export interface Hour {
  /** Start of the hour, milliseconds since 1970. */
  readonly startMs: number;
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
  readonly firstMs: number;
  readonly first: number;
  readonly lastMs: number;
  readonly last: number;
  /** By how much it grew from the first to the last, as a counter: a fall is a reset, counted from 0. */
  readonly growth: number;
}

export interface SeriesHours {
  readonly ref: number;
  readonly hours: readonly Hour[];
}

/** Below this many samples an hour, reading them costs no more than reading what they come to. */
const minSamplesPerHour = 16;
const version = 1;
const bytesPerHour = 80;
const compress = promisify(zlib.zstdCompress);
const decompress = promisify(zlib.zstdDecompress);

/** Null where it would save nothing. */
export async function encodeRollup(runs: readonly SeriesRun[]): Promise<Buffer | null> {
  const samples = runs.reduce((sum, { times }) => sum + times.length, 0);
  if (samples < minSamplesPerHour * runs.length) return null;
  const series = runs.map((run) => ({ ref: run.ref, hours: hoursOf(run) }));
  const count = series.reduce((sum, { hours }) => sum + hours.length, 0);
  if (samples < minSamplesPerHour * count) return null;
  const writer = new ByteWriter(16 + 16 * series.length + bytesPerHour * count);
  writer.byte(version);
  writer.varint(series.length);
  let ref = 0;
  for (const { ref: next, hours } of series) {
    writer.reserve(16 + bytesPerHour * hours.length);
    writer.varint(next - ref);
    ref = next;
    writer.varint(hours.length);
    let before = 0;
    for (const hour of hours) {
      const number = hour.startMs / hourMs;
      writer.varint(number - before);
      before = number;
      writer.varint(hour.count);
      writer.varint(hour.firstMs - hour.startMs);
      writer.varint(hour.lastMs - hour.startMs);
      for (const value of [hour.sum, hour.min, hour.max, hour.first, hour.last, hour.growth])
        writer.double(value);
    }
  }
  return await compress(writer.finish());
}

/** The hours of the series that are wanted, in ascending order of `ref`. */
export async function decodeRollup(
  data: Uint8Array,
  wanted: { has(ref: number): boolean },
): Promise<SeriesHours[]> {
  const reader = new ByteReader(await decompress(data));
  const written = reader.byte();
  if (written !== version) throw new Error(`a rollup in a form that this version does not know: ${written}`);
  const series: SeriesHours[] = [];
  let ref = 0;
  for (let left = reader.varint(); left > 0; left--) {
    ref += reader.varint();
    const hours: Hour[] = [];
    let number = 0;
    for (let count = reader.varint(); count > 0; count--) {
      number += reader.varint();
      const startMs = number * hourMs;
      const samples = reader.varint();
      const [firstMs, lastMs] = [startMs + reader.varint(), startMs + reader.varint()];
      const [sum, min, max] = [reader.double(), reader.double(), reader.double()];
      const [first, last, growth] = [reader.double(), reader.double(), reader.double()];
      hours.push({ startMs, count: samples, sum, min, max, firstMs, first, lastMs, last, growth });
    }
    if (wanted.has(ref)) series.push({ ref, hours });
  }
  return series;
}

/** The hours of some samples. */
export function hoursOf({ times, values }: Pick<SeriesRun, "times" | "values">): Hour[] {
  const hours: Hour[] = [];
  for (let from = 0; from < times.length; ) {
    const startMs = Math.floor((times[from] as number) / hourMs) * hourMs;
    const to = lowerBound(times, startMs + hourMs, from);
    hours.push({ startMs, ...sumUp(times, values, from, to) });
    from = to;
  }
  return hours;
}

/** What samples from `from` to `to`, one at least, come to. Summed up here and nowhere else, so that sums are the same to the last bit. */
export function sumUp(
  times: Float64Array,
  values: Float64Array,
  from: number,
  to: number,
): Omit<Hour, "startMs"> {
  const first = values[from] as number;
  let sum = 0;
  let min = first;
  let max = first;
  let growth = 0;
  let before = first;
  for (let at = from; at < to; at++) {
    const value = values[at] as number;
    sum += value;
    if (value < min) min = value;
    if (value > max) max = value;
    growth += value >= before ? value - before : value;
    before = value;
  }
  return {
    count: to - from,
    sum,
    min,
    max,
    firstMs: times[from] as number,
    first,
    lastMs: times[to - 1] as number,
    last: before,
    growth,
  };
}
