import { appendFileSync, readFileSync } from "node:fs";
import { crc32 } from "node:zlib";

/** Appends a frame that says which records are settled: count 4, CRC 4, then 4 for each record. */
export function appendAcks(path: string, records: readonly number[]): void {
  const frame = Buffer.allocUnsafe(8 + records.length * 4);
  frame.writeUInt32BE(records.length, 0);
  for (const [index, record] of records.entries()) frame.writeUInt32BE(record, 8 + index * 4);
  frame.writeUInt32BE(crc32(frame.subarray(8), records.length), 4);
  appendFileSync(path, frame);
}

/**
 * Reads which records are settled, up to the first frame that is broken: what is missing is only sent once more, and
 * the ids of events make that harmless.
 */
export function readAcks(path: string): Set<number> {
  const acked = new Set<number>();
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch {
    // None yet, or unreadable: all are sent.
    return acked;
  }
  for (let offset = 0; offset + 8 <= file.length; ) {
    const count = file.readUInt32BE(offset);
    const body = file.subarray(offset + 8, offset + 8 + count * 4);
    if (body.length !== count * 4 || crc32(body, count) !== file.readUInt32BE(offset + 4)) break;
    for (let index = 0; index < count; index++) acked.add(body.readUInt32BE(index * 4));
    offset += 8 + count * 4;
  }
  return acked;
}
