/** Bytes before the payload: marker 4, payload's length 4, sequence 6, time 6, payload's checksum 4, header's checksum 4. */
export const headerBytes = 28;

const marker = 0x50577233;
const markerBytes = Buffer.from("PWr3");

/** Bytes that hold records. */
export interface RecordBuffer {
  readonly bytes: Buffer;
  /** The same bytes. */
  readonly view: DataView;
}

export function recordBuffer(bytes: Buffer): RecordBuffer {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
}

/** Told of a record: its number in order of appending, and where its payload is. */
export type OnRecord = (sequence: number, start: number, end: number) => void;

/** What was found in some bytes of a segment besides records. */
export interface Scan {
  /** Ranges that hold no whole record: `[from, to)` within the bytes scanned. */
  broken: [from: number, to: number][];
  /** Bytes that are dealt with; what follows needs more bytes to be read. */
  consumed: number;
}

/**
 * Writes a record into a buffer that has room for it.
 *
 * @param salt start of the checksums: bytes within a payload never pass for a record of their own
 * @param timeMs milliseconds since 1970
 * @returns the offset behind it
 */
export function writeRecord(
  { bytes, view }: RecordBuffer,
  offset: number,
  salt: number,
  sequence: number,
  timeMs: number,
  payload: Uint8Array,
): number {
  const start = offset + headerBytes;
  const end = start + payload.length;
  bytes.set(payload, start);
  view.setUint32(offset, marker);
  view.setUint32(offset + 4, payload.length);
  setUint48(view, offset + 8, sequence);
  setUint48(view, offset + 14, timeMs);
  view.setInt32(offset + 20, checksum(view, start, end, salt));
  view.setInt32(offset + 24, headerChecksum(view, offset, salt));
  return end;
}

/** Whether the record whose payload begins here was appended before this time. */
export function isOlder(bytes: Buffer, start: number, thanMs: number): boolean {
  const from = start - headerBytes + 14;
  let timeMs = 0;
  for (let at = from; at < from + 6; at++) timeMs = timeMs * 256 + (bytes[at] as number);
  return timeMs < thanMs;
}

/**
 * Tells of all whole records. Past anything broken it goes on at the next record that is whole.
 *
 * @param whole no more bytes follow: a record that is cut off at the end is broken
 */
export function scan({ bytes, view }: RecordBuffer, salt: number, whole: boolean, onRecord: OnRecord): Scan {
  const broken: [number, number][] = [];
  let offset = 0;
  let brokenFrom: number | undefined;
  const endBroken = () => {
    if (brokenFrom !== undefined && brokenFrom < offset) broken.push([brokenFrom, offset]);
    brokenFrom = undefined;
  };
  while (offset + headerBytes <= bytes.length) {
    const end = endOfRecord(view, offset, salt);
    if (end !== undefined && end > bytes.length && !whole) break;
    if (end !== undefined && end <= bytes.length) {
      const start = offset + headerBytes;
      if (checksum(view, start, end, salt) === view.getInt32(offset + 20)) {
        endBroken();
        onRecord(getUint48(view, offset + 8), start, end);
        offset = end;
        continue;
      }
    }
    brokenFrom ??= offset;
    const next = bytes.indexOf(markerBytes, offset + 1);
    offset = next >= 0 ? next : Math.max(offset + 1, bytes.length - markerBytes.length + 1);
  }
  if (whole) {
    brokenFrom ??= offset;
    offset = bytes.length;
  }
  endBroken();
  return { broken, consumed: offset };
}

/** Where the record that begins here ends; `undefined` where none begins. */
function endOfRecord(view: DataView, offset: number, salt: number): number | undefined {
  if (view.getUint32(offset) !== marker) return undefined;
  if (headerChecksum(view, offset, salt) !== view.getInt32(offset + 24)) return undefined;
  return offset + headerBytes + view.getUint32(offset + 4);
}

/**
 * Of the bytes in this range. A change within one word is always seen, for each step can be undone; of others one in four
 * thousand million is not. Node's crc32() takes four times as long for a payload of 200 bytes, for it is a call out of
 * JavaScript; two sums that do not wait for each other take half of what one takes.
 * As a signed number, which takes no memory.
 */
function checksum(view: DataView, start: number, end: number, salt: number): number {
  let even = salt;
  let odd = salt ^ (end - start);
  let at = start;
  for (const last = end - 8; at <= last; at += 8) {
    even = mix(even, view.getInt32(at));
    odd = mix(odd, view.getInt32(at + 4));
  }
  for (; at < end; at++) even = mix(even, view.getUint8(at));
  return even ^ ((odd << 16) | (odd >>> 16));
}

/** Of the 20 bytes behind the marker; seen as by checksum(). */
function headerChecksum(view: DataView, offset: number, salt: number): number {
  let sum = salt;
  for (let word = 4; word < 24; word += 4) sum = mix(sum, view.getInt32(offset + word));
  return sum;
}

function mix(sum: number, word: number): number {
  const mixed = Math.imul(sum ^ word, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
}

function setUint48(view: DataView, offset: number, value: number): void {
  view.setUint16(offset, value / 2 ** 32);
  view.setUint32(offset + 2, value);
}

function getUint48(view: DataView, offset: number): number {
  return view.getUint16(offset) * 2 ** 32 + view.getUint32(offset + 2);
}
