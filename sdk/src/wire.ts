/**
 * Writes Protobuf into a page of memory, without an object for each message or text.
 *
 * Each function writes at a position and returns the next one. Nothing is checked for room: what goes past the end of
 * the page is not written, only counted, so that the caller knows afterwards how large a page it takes. Lengths of
 * messages are written after the fact; most take one byte.
 */

/** A whole number from 0 up to 2^53. */
export function writeVarint(page: Uint8Array, start: number, value: number): number {
  let [at, rest] = [start, value];
  for (; rest > 0xffffffff; rest = Math.floor(rest / 128)) page[at++] = (rest % 128) | 0x80;
  for (rest >>>= 0; rest > 0x7f; rest >>>= 7) page[at++] = (rest & 0x7f) | 0x80;
  page[at++] = rest;
  return at;
}

/** A whole number of either sign. */
export function writeInt64(page: Uint8Array, start: number, value: number): number {
  if (value >= 0) return writeVarint(page, start, value);
  let [at, rest] = [start, BigInt.asUintN(64, BigInt(value))];
  for (; rest > 0x7fn; rest >>= 7n) page[at++] = Number(rest & 0x7fn) | 0x80;
  page[at++] = Number(rest);
  return at;
}

const double = /* @__PURE__ */ new Float64Array(1);
const doubleBytes = /* @__PURE__ */ (() => new Uint8Array(double.buffer))();
const littleEndian = /* @__PURE__ */ (() => new Uint8Array(Uint16Array.of(1).buffer)[0] === 1)();

/** Eight bytes. */
export function writeDouble(page: Uint8Array, at: number, value: number): number {
  double[0] = value;
  if (littleEndian) for (let index = 0; index < 8; index++) page[at + index] = doubleBytes[index] as number;
  else for (let index = 0; index < 8; index++) page[at + index] = doubleBytes[7 - index] as number;
  return at + 8;
}

/** Longest text that is written character by character, which is then the fastest way. Its length takes one byte. */
const shortText = 100;
const encoder = /* @__PURE__ */ new TextEncoder();

/** A text behind its length. */
export function writeText(page: Uint8Array, start: number, value: string): number {
  const { length } = value;
  if (length > shortText) return writeLongText(page, start, value);
  let at = start + 1;
  for (let index = 0; index < length; index++) {
    const code = value.charCodeAt(index);
    if (code > 0x7f) return writeLongText(page, start, value);
    page[at++] = code;
  }
  page[start] = length;
  return at;
}

function writeLongText(page: Uint8Array, start: number, value: string): number {
  const { read, written } = encoder.encodeInto(value, page.subarray(start + 1));
  return endMessage(page, start, start + 1 + (read === value.length ? written : 3 * value.length));
}

/**
 * Ends what begins at `start` with the byte left for its length, and goes up to `end`: what is longer than 127 bytes is
 * moved.
 */
export function endMessage(page: Uint8Array, start: number, end: number): number {
  const length = end - start - 1;
  if (length <= 0x7f) {
    page[start] = length;
    return end;
  }
  let extra = 0;
  for (let rest = length; rest > 0x7f; rest = Math.floor(rest / 128)) extra++;
  page.copyWithin(start + 1 + extra, start + 1, end);
  writeVarint(page, start, length);
  return end + extra;
}

/** As endMessage(), where two bytes were left, for what is seldom short. */
export function endFrame(page: Uint8Array, start: number, end: number): number {
  const length = end - start - 2;
  if (length <= 0x7f || length > 0x3fff) {
    page.copyWithin(start + 1, start + 2, end);
    return endMessage(page, start, end - 1);
  }
  page[start] = (length & 0x7f) | 0x80;
  page[start + 1] = length >> 7;
  return end;
}
