import { ConnectionFault, errorCode, frameFlag, frameHeadBytes, protocolFault } from "./frames.ts";

/** Larger header blocks, in as many pieces as they come, end the connection. */
const maxBlockBytes = 65_536;

/** The header fields in HEADERS, without its padding and priority. */
export function fieldsOf(flags: number, bytes: Buffer, start: number, end: number): Buffer {
  let from = start;
  let to = end;
  if (flags & frameFlag.padded) to -= bytes[from++] as number;
  if (flags & frameFlag.priority) from += 5;
  if (from > to) throw protocolFault("more padding than frame");
  return bytes.subarray(from, to);
}

/** Header fields that come in several pieces, HEADERS and CONTINUATION. */
export class OpenBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly #pieces: Buffer[];
  #size: number;

  constructor(streamId: number, endStream: boolean, first: Buffer) {
    this.streamId = streamId;
    this.endStream = endStream;
    this.#pieces = [Buffer.from(first)];
    this.#size = first.length;
  }

  add(piece: Buffer): void {
    this.#pieces.push(Buffer.from(piece));
    // Empty pieces are no less work.
    this.#size += piece.length + frameHeadBytes;
    if (this.#size > maxBlockBytes)
      throw new ConnectionFault(errorCode.enhanceYourCalm, "a header block is too large");
  }

  whole(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}
