import { hash } from "node:crypto";

const hexOf = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
/** The value of a hexadecimal digit in lower case by its character code; 16: none. */
const digitOf = Uint8Array.from({ length: 256 }, (_, code) => {
  const value = "0123456789abcdef".indexOf(String.fromCharCode(code));
  return value < 0 ? 16 : value;
});

/** The usual form, 36 characters, of a UUID that lies in four words from `from` on. */
export function uuidText(words: Int32Array, from: number): string {
  const a = words[from] as number;
  const b = words[from + 1] as number;
  const c = words[from + 2] as number;
  const d = words[from + 3] as number;
  return `${hex4(a >>> 16)}${hex4(a)}-${hex4(b >>> 16)}-${hex4(b)}-${hex4(c >>> 16)}-${hex4(c)}${hex4(d >>> 16)}${hex4(d)}`;
}

const hex4 = (value: number) => `${hexOf[(value >>> 8) & 0xff]}${hexOf[value & 0xff]}`;

/** Writes the usual form, 36 bytes; returns the position behind it. */
export function writeUuidText(target: Uint8Array, at: number, words: Int32Array, from: number): number {
  const text = uuidText(words, from);
  for (let index = 0; index < 36; index++) target[at + index] = text.charCodeAt(index);
  return at + 36;
}

/** Writes the 16 bytes; returns the position behind them. */
export function writeUuid(target: Uint8Array, at: number, words: Int32Array, from: number): number {
  let to = at;
  for (let index = from; index < from + 4; index++) {
    const word = words[index] as number;
    target[to++] = word >>> 24;
    target[to++] = word >>> 16;
    target[to++] = word >>> 8;
    target[to++] = word;
  }
  return to;
}

/** Orders as PostgreSQL orders uuid: byte by byte. */
export function compareUuids(one: Int32Array, from: number, other: Int32Array, otherFrom: number): number {
  for (let index = 0; index < 4; index++) {
    const left = one[from + index] as number;
    const right = other[otherFrom + index] as number;
    if (left !== right) return left >>> 0 < right >>> 0 ? -1 : 1;
  }
  return 0;
}

/**
 * The dedupe key of an event id in `bytes`: the id itself where it is a UUIDv7, so that keys made in order lie side by
 * side and can be dropped by their time; otherwise 15 bytes of its SHA-256 after ff, a byte that no time before the year
 * 10,000 begins with. An id that does is hashed, too, so that none can pose as a hash.
 */
export function readEventKey(
  bytes: Uint8Array,
  start: number,
  end: number,
  words: Int32Array,
  to: number,
): void {
  if (end - start === 36 && readUuidv7(bytes, start, words, to) && (words[to] as number) >>> 24 !== 0xff)
    return;
  readDigest(bytes.subarray(start, end), words, to);
  words[to] = 0xff00_0000 | (words[to] as number);
}

/** The first 16 bytes of the SHA-256. Through a string: that costs a fraction of a Buffer. */
export function readDigest(bytes: Uint8Array, words: Int32Array, to: number): void {
  const digest = hash("sha256", bytes, "latin1");
  for (let index = 0; index < 4; index++) words[to + index] = wordAt(digest, 4 * index);
}

function wordAt(text: string, at: number): number {
  return (
    (text.charCodeAt(at) << 24) |
    (text.charCodeAt(at + 1) << 16) |
    (text.charCodeAt(at + 2) << 8) |
    text.charCodeAt(at + 3)
  );
}

/** The dedupe key of an event id. */
export function eventKey(eventId: string): string {
  const key = new Int32Array(4);
  const bytes = Buffer.from(eventId);
  readEventKey(bytes, 0, bytes.length, key, 0);
  return uuidText(key, 0);
}

const dash = 0x2d;

/** Reads a UUIDv7 in its usual form in lower case; false: it is none. */
function readUuidv7(bytes: Uint8Array, start: number, words: Int32Array, to: number): boolean {
  if (
    bytes[start + 8] !== dash ||
    bytes[start + 13] !== dash ||
    bytes[start + 18] !== dash ||
    bytes[start + 23] !== dash ||
    bytes[start + 14] !== 0x37
  ) {
    return false;
  }
  const variant = digitOf[bytes[start + 19] as number] as number;
  return variant >= 8 && variant < 12 && readDigits(bytes, start, words, to);
}

function readDigits(bytes: Uint8Array, start: number, words: Int32Array, to: number): boolean {
  let bad = 0;
  const four = (at: number) => {
    const w = digitOf[bytes[start + at] as number] as number;
    const x = digitOf[bytes[start + at + 1] as number] as number;
    const y = digitOf[bytes[start + at + 2] as number] as number;
    const z = digitOf[bytes[start + at + 3] as number] as number;
    bad |= w | x | y | z;
    return (w << 12) | (x << 8) | (y << 4) | z;
  };
  words[to] = (four(0) << 16) | four(4);
  words[to + 1] = (four(9) << 16) | four(14);
  words[to + 2] = (four(19) << 16) | four(24);
  words[to + 3] = (four(28) << 16) | four(32);
  return (bad & 16) === 0;
}
