import { ConnectionFault, errorCode, frameHeadBytes, largestStreamId, maxPayloadBytes } from "./frames.ts";

const prefaceBytes = Buffer.byteLength("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Takes a frame, whose payload lies in `bytes` from `start` to `end`. False: no more frames are wanted. */
export type OnFrame = (
  type: number,
  flags: number,
  streamId: number,
  bytes: Buffer,
  start: number,
  end: number,
) => boolean;

/** Cuts what comes on a connection, in whatever pieces, into frames. */
export class FrameReader {
  readonly #onFrame: OnFrame;
  /** The beginning of a frame. */
  #rest: Buffer | undefined;
  #prefaceLeft = prefaceBytes;

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame;
  }

  /** Throws a fault where a frame is too large, and what `onFrame` throws. */
  read(chunk: Buffer): void {
    let bytes = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
    this.#rest = undefined;
    if (this.#prefaceLeft > 0) {
      // It has been compared before.
      const part = Math.min(this.#prefaceLeft, bytes.length);
      this.#prefaceLeft -= part;
      bytes = bytes.subarray(part);
    }
    let at = 0;
    while (bytes.length - at >= frameHeadBytes) {
      const length =
        ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
      if (length > maxPayloadBytes) throw new ConnectionFault(errorCode.frameSize, "a frame is too large");
      const end = at + frameHeadBytes + length;
      if (end > bytes.length) break;
      const type = bytes[at + 3] as number;
      const flags = bytes[at + 4] as number;
      const streamId = bytes.readUInt32BE(at + 5) & largestStreamId;
      if (!this.#onFrame(type, flags, streamId, bytes, at + frameHeadBytes, end)) return;
      at = end;
    }
    if (at < bytes.length) this.#rest = bytes.subarray(at);
  }
}
