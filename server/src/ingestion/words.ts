import { hash } from "node:crypto";
import { Words } from "./event-row.ts";

const hexOf = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
/** The value of a hexadecimal digit in lower case by its character code; 16: none. */
const digitOf = Uint8Array.from({ length: 256 }, (_, code) => {
  const value = "0123456789abcdef".indexOf(String.fromCharCode(code));
  return value < 0 ? 16 : value;
});

/** The usual form, 36 characters. */
export function uuidText({ a, b, c, d }: Words): string {
  return `${hex4(a >>> 16)}${hex4(a)}-${hex4(b >>> 16)}-${hex4(b)}-${hex4(c >>> 16)}-${hex4(c)}${hex4(d >>> 16)}${hex4(d)}`;
}

const hex4 = (value: number) => `${hexOf[(value >>> 8) & 0xff]}${hexOf[value & 0xff]}`;

/** Writes the usual form, 36 bytes; returns the position behind it. */
export function writeUuidText(target: Uint8Array, at: number, words: Words): number {
  const text = uuidText(words);
  for (let index = 0; index < 36; index++) target[at + index] = text.charCodeAt(index);
  return at + 36;
}

/** Writes the 16 bytes; returns the position behind them. */
export function writeUuid(target: Uint8Array, at: number, { a, b, c, d }: Words): number {
  return writeWord(target, writeWord(target, writeWord(target, writeWord(target, at, a), b), c), d);
}

function writeWord(target: Uint8Array, at: number, word: number): number {
  target[at] = word >>> 24;
  target[at + 1] = word >>> 16;
  target[at + 2] = word >>> 8;
  target[at + 3] = word;
  return at + 4;
}

/** Orders as PostgreSQL orders uuid: byte by byte. */
export function compareWords(one: Words, other: Words): number {
  return (
    compareUnsigned(one.a, other.a) ||
    compareUnsigned(one.b, other.b) ||
    compareUnsigned(one.c, other.c) ||
    compareUnsigned(one.d, other.d)
  );
}

const compareUnsigned = (one: number, other: number) =>
  one === other ? 0 : one >>> 0 < other >>> 0 ? -1 : 1;

/**
 * The dedupe key of an event id in `bytes`: the id itself where it is a UUIDv7, so that keys made in order lie side by
 * side and can be dropped by their time; otherwise 15 bytes of its SHA-256 after ff, a byte that no time before the year
 * 10,000 begins with. An id that does is hashed, too, so that none can pose as a hash.
 */
export function readEventKey(bytes: Uint8Array, start: number, end: number, key: Words): void {
  if (end - start === 36 && readUuidv7(bytes, start, key) && key.a >>> 24 !== 0xff) return;
  const digest = hash("sha256", bytes.subarray(start, end), "latin1");
  key.a = 0xff00_0000 | wordAt(digest, 0);
  key.b = wordAt(digest, 4);
  key.c = wordAt(digest, 8);
  key.d = wordAt(digest, 12);
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
  const key = new Words();
  const bytes = Buffer.from(eventId);
  readEventKey(bytes, 0, bytes.length, key);
  return uuidText(key);
}

const dash = 0x2d;

/** Reads a UUIDv7 in its usual form in lower case; false: it is none. */
function readUuidv7(bytes: Uint8Array, start: number, words: Words): boolean {
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
  return variant >= 8 && variant < 12 && readDigits(bytes, start, words);
}

function readDigits(bytes: Uint8Array, start: number, words: Words): boolean {
  let bad = 0;
  const four = (at: number) => {
    const w = digitOf[bytes[start + at] as number] as number;
    const x = digitOf[bytes[start + at + 1] as number] as number;
    const y = digitOf[bytes[start + at + 2] as number] as number;
    const z = digitOf[bytes[start + at + 3] as number] as number;
    bad |= w | x | y | z;
    return (w << 12) | (x << 8) | (y << 4) | z;
  };
  words.a = (four(0) << 16) | four(4);
  words.b = (four(9) << 16) | four(14);
  words.c = (four(19) << 16) | four(24);
  words.d = (four(28) << 16) | four(32);
  return (bad & 16) === 0;
}
