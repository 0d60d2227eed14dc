/**
 * The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: within a length the codes count up with the symbols, so
 * that the lengths say all.
 */

/** Bits of the code of each byte. */
const lengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/** The end of text; its bits fill up the last byte. */
const eos = 256;
const eosBits = 30;

/** A binary tree: two places for each node, which hold the next node, or the symbol as a negative number less one. */
const tree = buildTree();

function buildTree(): Int16Array {
  const places = new Int16Array(2 * 512);
  let nodes = 1;
  const symbols = [...lengths, eosBits]
    .map((length, symbol) => ({ length, symbol }))
    .sort((a, b) => a.length - b.length || a.symbol - b.symbol);
  let code = 0;
  let before = 0;
  for (const { length, symbol } of symbols) {
    // Up to 30 bits: within what shifts can do.
    code <<= length - before;
    before = length;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const place = 2 * node + ((code >>> bit) & 1);
      if (places[place] === 0) places[place] = nodes++;
      node = places[place] as number;
    }
    places[2 * node + (code & 1)] = -symbol - 1;
    code++;
  }
  return places;
}

/** Reads a text that is Huffman-coded from `start` to `end`; undefined: it is not well coded. */
export function readHuffman(bytes: Uint8Array, start: number, end: number): string | undefined {
  const codes: number[] = [];
  let node = 0;
  /** Bits since the last symbol, and whether all of them are ones. */
  let open = 0;
  let ones = true;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    for (let shift = 7; shift >= 0; shift--) {
      const bit = (byte >>> shift) & 1;
      const next = tree[2 * node + bit] as number;
      open++;
      if (bit === 0) ones = false;
      if (next >= 0) {
        node = next;
        continue;
      }
      const symbol = -next - 1;
      if (symbol === eos) return undefined;
      codes.push(symbol);
      node = 0;
      open = 0;
      ones = true;
    }
  }
  if (open > 7 || !ones) return undefined;
  return textOf(codes);
}

/** More arguments than this are too many for one call. */
const mostAtOnce = 4_096;

function textOf(codes: readonly number[]): string {
  if (codes.length <= mostAtOnce) return String.fromCharCode(...codes);
  let text = "";
  for (let at = 0; at < codes.length; at += mostAtOnce)
    text += String.fromCharCode(...codes.slice(at, at + mostAtOnce));
  return text;
}
