/**
 * The samples of one flush as bytes, quick to write and not yet small:
 *
 *   version · runs · samples · values (8 bytes each) · series of each run, as distance from the one before · samples of
 *   each run, unless all have one · first time · distance of each further time from the one before
 */
import { ByteReader, ByteWriter } from "./bytes.ts";
import type { SampleColumns } from "./columns.ts";

const version = 1;
const headerBytes = 16;

/** Puts the samples of several calls in one batch, in the order given. */
export function encodeBatch(parts: readonly SampleColumns[]): Buffer {
  const size = parts.reduce((sum, { times }) => sum + times.length, 0);
  const runs = parts.reduce((sum, { refs }) => sum + refs.length, 0);
  const single = runs === size;
  const writer = new ByteWriter(headerBytes + 8 * size + 4 * runs + 3 * size + 64);
  writer.byte(version);
  writer.byte(single ? 1 : 0);
  writer.position = 8;
  writer.buffer.writeUInt32LE(runs, 8);
  writer.buffer.writeUInt32LE(size, 12);
  writer.position = headerBytes;
  for (const { values } of parts)
    writer.bytes(new Uint8Array(values.buffer, values.byteOffset, 8 * values.length));
  let before = 0;
  for (const { refs } of parts) {
    for (const ref of refs) {
      writer.reserve(8);
      writer.signed(ref - before);
      before = ref;
    }
  }
  if (!single) {
    for (const { counts } of parts) {
      for (const count of counts) {
        writer.reserve(8);
        writer.varint(count);
      }
    }
  }
  before = 0;
  for (const { times } of parts) {
    for (let index = 0; index < times.length; index++) {
      writer.reserve(8);
      const time = times[index] as number;
      writer.signed(time - before);
      before = time;
    }
  }
  writer.buffer.fill(0, 2, 8);
  return writer.finish();
}

/** Throws for bytes of a later version. */
export function decodeBatch(data: Uint8Array): SampleColumns {
  const reader = new ByteReader(data);
  const written = reader.byte();
  if (written !== version) throw new Error(`samples in a form that this version does not know: ${written}`);
  const single = reader.byte() === 1;
  const runs = reader.buffer.readUInt32LE(8);
  const size = reader.buffer.readUInt32LE(12);
  const values = new Float64Array(size);
  new Uint8Array(values.buffer).set(data.subarray(headerBytes, headerBytes + 8 * size));
  reader.position = headerBytes + 8 * size;
  const refs = new Array<number>(runs);
  let before = 0;
  for (let index = 0; index < runs; index++) {
    before += reader.signed();
    refs[index] = before;
  }
  const counts = new Array<number>(runs).fill(1);
  if (!single) for (let index = 0; index < runs; index++) counts[index] = reader.varint();
  const times = new Float64Array(size);
  reader.signedColumn(times, 0);
  before = 0;
  for (let index = 0; index < size; index++) {
    before += times[index] as number;
    times[index] = before;
  }
  return { refs, counts, times, values };
}
