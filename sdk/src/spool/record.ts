import { crc32 } from "node:zlib";

/** Bytes before the payload: marker 4, payload's length 4, sequence 6, time 6, payload's CRC 4, header's checksum 4. */
export const headerBytes = 28;

const marker = 0x50577232;
const markerBytes = Buffer.from("PWr2");

/** A record as it was read. */
export interface ScannedRecord {
  /** Number in order of appending. */
  sequence: number;
  /** When it was appended: milliseconds since 1970. */
  timeMs: number;
  /** What was appended; a view into the bytes scanned. */
  payload: Uint8Array;
}

/** What was found in some bytes of a segment. */
export interface Scan {
  records: ScannedRecord[];
  /** Ranges that hold no whole record: `[from, to)` within the bytes scanned. */
  broken: [from: number, to: number][];
  /** Bytes that are dealt with; what follows needs more bytes to be read. */
  consumed: number;
}

/**
 * Writes a record into a buffer that has room for it.
 *
 * @param salt start of the checksums: bytes within a payload never pass for a record of their own
 * @returns the offset behind it
 */
export function writeRecord(
  buffer: Buffer,
  offset: number,
  salt: number,
  sequence: number,
  timeMs: number,
  payload: Uint8Array,
): number {
  const checksum = crc32(payload, salt);
  buffer.writeUInt32BE(marker, offset);
  buffer.writeUInt32BE(payload.length, offset + 4);
  buffer.writeUIntBE(sequence, offset + 8, 6);
  buffer.writeUIntBE(timeMs, offset + 14, 6);
  buffer.writeUInt32BE(checksum, offset + 20);
  buffer.writeUInt32BE(headerChecksum(buffer, offset, salt), offset + 24);
  buffer.set(payload, offset + headerBytes);
  return offset + headerBytes + payload.length;
}

/** Of the 20 bytes behind the marker. Each step can be undone, so that a change within one word is always seen. */
function headerChecksum(buffer: Buffer, offset: number, salt: number): number {
  let sum = salt;
  for (let word = 4; word < 24; word += 4) {
    sum = Math.imul(sum ^ buffer.readInt32BE(offset + word), 0x9e3779b1);
    sum ^= sum >>> 15;
  }
  return sum >>> 0;
}

/**
 * Reads all whole records. Past anything broken it goes on at the next record that is whole.
 *
 * @param whole no more bytes follow: a record that is cut off at the end is broken
 */
export function scan(buffer: Buffer, salt: number, whole: boolean): Scan {
  const records: ScannedRecord[] = [];
  const broken: [number, number][] = [];
  let offset = 0;
  let brokenFrom: number | undefined;
  const endBroken = () => {
    if (brokenFrom !== undefined && brokenFrom < offset) broken.push([brokenFrom, offset]);
    brokenFrom = undefined;
  };
  while (offset + headerBytes <= buffer.length) {
    const end = endOfRecord(buffer, offset, salt);
    if (end !== undefined && end > buffer.length && !whole) break;
    if (end !== undefined && end <= buffer.length) {
      const payload = buffer.subarray(offset + headerBytes, end);
      if (crc32(payload, salt) === buffer.readUInt32BE(offset + 20)) {
        endBroken();
        const [sequence, timeMs] = [buffer.readUIntBE(offset + 8, 6), buffer.readUIntBE(offset + 14, 6)];
        records.push({ sequence, timeMs, payload });
        offset = end;
        continue;
      }
    }
    brokenFrom ??= offset;
    const next = buffer.indexOf(markerBytes, offset + 1);
    offset = next >= 0 ? next : Math.max(offset + 1, buffer.length - markerBytes.length + 1);
  }
  if (whole) {
    brokenFrom ??= offset;
    offset = buffer.length;
  }
  endBroken();
  return { records, broken, consumed: offset };
}

/** Where the record that begins here ends; `undefined` where none begins. */
function endOfRecord(buffer: Buffer, offset: number, salt: number): number | undefined {
  if (buffer.readUInt32BE(offset) !== marker) return undefined;
  if (headerChecksum(buffer, offset, salt) !== buffer.readUInt32BE(offset + 24)) return undefined;
  return offset + headerBytes + buffer.readUInt32BE(offset + 4);
}
