/** The end of an answer that is sent in chunks. */
export const lastChunk = Buffer.from("0\r\n\r\n", "latin1");

let lastPiece: Uint8Array | undefined;
let framed: Buffer | undefined;

/** A piece as a chunk of an answer of unknown length. The same piece may go to thousands, and so its frame is made once. */
export function chunkOf(piece: Uint8Array): Buffer {
  if (piece === lastPiece && framed) return framed;
  const head = `${piece.byteLength.toString(16)}\r\n`;
  const chunk = Buffer.allocUnsafe(head.length + piece.byteLength + 2);
  chunk.write(head, 0, "latin1");
  chunk.set(piece, head.length);
  chunk.write("\r\n", head.length + piece.byteLength, "latin1");
  lastPiece = piece;
  framed = chunk;
  return chunk;
}
