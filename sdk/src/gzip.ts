import { promisify } from "node:util";
import { constants, gunzip, gzip } from "node:zlib";
import { maxResponseBytes } from "./client-options.ts";

const compressAt = promisify(gzip);
const decompress = promisify(gunzip);
/** A piece of the output, where it is small. */
const minChunkBytes = 16 * 1024;

/** Gzip at its fastest: batches become a tenth larger than at the usual level, for a third of the time. */
export function compressFast(bytes: Uint8Array): Promise<Buffer<ArrayBuffer>> {
  // Batches shrink to less than a quarter: with room for that there is one piece of output, not one for every 16 KiB.
  const chunkSize = Math.max(minChunkBytes, bytes.length >> 2);
  return compressAt(bytes, { level: constants.Z_BEST_SPEED, chunkSize });
}

/** Memory kept to put pieces together in: fresh memory costs as much as the copying. */
const spares: Buffer[] = [];
const maxSpares = 4;
const spareBytes = 1024 * 1024;
/** Less is put together in memory of its own. */
const minSpareUse = 128 * 1024;

/** The same, of pieces that lie behind each other. */
export async function compressPieces(pieces: readonly Uint8Array[]): Promise<Buffer> {
  const size = pieces.reduce((sum, { length }) => sum + length, 0);
  if (size > spareBytes || size < minSpareUse) return compressFast(Buffer.concat(pieces, size));
  const spare = spares.pop() ?? Buffer.allocUnsafeSlow(spareBytes);
  let at = 0;
  for (const piece of pieces) {
    spare.set(piece, at);
    at += piece.length;
  }
  try {
    return await compressFast(spare.subarray(0, size));
  } finally {
    if (spares.length < maxSpares) spares.push(spare);
  }
}

/** Undoes it, up to what an answer may have. */
export function decompressAnswer(bytes: Uint8Array): Promise<Buffer> {
  return decompress(bytes, { maxOutputLength: maxResponseBytes });
}
