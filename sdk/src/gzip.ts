import { promisify } from "node:util";
import { constants, createGzip, type Gzip, gunzip, gzip, type ZlibReset } from "node:zlib";
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

/** Less is compressed by itself, more too. */
const minReuseBytes = 16 * 1024;
const maxReuseBytes = 1024 * 1024;
const chunkBytes = 64 * 1024;

/**
 * Compresses one batch after the other, with the memory of the first: a quarter of a megabyte for the state of zlib, and what
 * pieces are put together in. Fresh memory costs as much as the copying, and leaves the allocator in pieces.
 */
class Compressor {
  // Its type lacks reset(), which Node has for all that deflate.
  readonly #stream = createGzip({ level: constants.Z_BEST_SPEED, chunkSize: chunkBytes }) as Gzip & ZlibReset;
  readonly #input = Buffer.allocUnsafeSlow(maxReuseBytes);
  #output: Buffer[] = [];

  constructor() {
    this.#stream.on("data", (chunk: Buffer) => this.#output.push(chunk));
  }

  /** One at a time. */
  compress(pieces: readonly Uint8Array[]): Promise<Buffer> {
    let size = 0;
    for (const piece of pieces) {
      this.#input.set(piece, size);
      size += piece.length;
    }
    return new Promise((resolve, reject) => {
      this.#stream.once("error", reject);
      this.#stream.write(this.#input.subarray(0, size));
      this.#stream.flush(constants.Z_FINISH, () => {
        this.#stream.off("error", reject);
        this.#stream.reset();
        const output = this.#output;
        this.#output = [];
        resolve(output.length === 1 ? (output[0] as Buffer) : Buffer.concat(output));
      });
    });
  }
}

const compressors: Compressor[] = [];
const maxCompressors = 4;

/** The same, of pieces that lie behind each other. */
export async function compressPieces(pieces: readonly Uint8Array[]): Promise<Buffer> {
  const size = pieces.reduce((sum, { length }) => sum + length, 0);
  if (size > maxReuseBytes || size < minReuseBytes) return compressFast(Buffer.concat(pieces, size));
  const compressor = compressors.pop() ?? new Compressor();
  const compressed = await compressor.compress(pieces);
  // Not where it failed.
  if (compressors.length < maxCompressors) compressors.push(compressor);
  return compressed;
}

/** Undoes it, up to what an answer may have. */
export function decompressAnswer(bytes: Uint8Array): Promise<Buffer> {
  return decompress(bytes, { maxOutputLength: maxResponseBytes });
}
