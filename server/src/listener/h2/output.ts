import type { Socket } from "node:net";
import { frameFlag, frameHeadBytes, frameType, maxPayloadBytes, writeFrameHead } from "./frames.ts";
import { blockBytes, noTable, writeFields } from "./header-writer.ts";

const chunkBytes = 4_096;

/** What goes out on a connection: frames are gathered and written once for all that a turn of the event loop brings. */
export class Output {
  readonly #socket: Socket;
  /** Full ones, before the one that is being filled. */
  #full: Buffer[] = [];
  #chunk: Buffer = none;
  #at = 0;
  #scheduled = false;
  #begun = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Whether the peer takes less than it is sent, so that what is not urgent should wait for `drain` of the socket. */
  get isBehind(): boolean {
    return this.#socket.writableNeedDrain;
  }
  /** Bytes that the kernel has not taken. */
  get waitingBytes(): number {
    return this.#socket.writableLength;
  }

  frame(type: number, flags: number, streamId: number, payload: Uint8Array): void {
    const length = payload.length;
    const at = this.#reserve(frameHeadBytes + length);
    writeFrameHead(this.#chunk, at, length, type, flags, streamId);
    this.#chunk.set(payload, at + frameHeadBytes);
    this.#at += frameHeadBytes + length;
  }

  /** A frame whose payload is numbers of four bytes. */
  words(type: number, flags: number, streamId: number, ...words: readonly number[]): void {
    const at = this.#reserve(frameHeadBytes + 4 * words.length);
    writeFrameHead(this.#chunk, at, 4 * words.length, type, flags, streamId);
    words.forEach((word, index) => void this.#chunk.writeUInt32BE(word, at + frameHeadBytes + 4 * index));
    this.#at += frameHeadBytes + 4 * words.length;
  }

  /** Fields, names and values in turn, as HEADERS and as many CONTINUATION as they need. Throws where one cannot be written. */
  headers(streamId: number, fields: readonly string[], endStream: boolean): void {
    const size = blockBytes(fields);
    const start = this.#reserve(frameHeadBytes + size) + frameHeadBytes;
    const chunk = this.#chunk;
    let end = start;
    if (!this.#begun) chunk[end++] = noTable;
    end = writeFields(chunk, end, fields);
    this.#begun = true;
    const endFlag = endStream ? frameFlag.endStream : 0;
    if (end - start <= maxPayloadBytes) {
      const flags = endFlag | frameFlag.endHeaders;
      writeFrameHead(chunk, start - frameHeadBytes, end - start, frameType.headers, flags, streamId);
      this.#at = end;
      return;
    }
    const block = Buffer.from(chunk.subarray(start, end));
    for (let at = 0; at < block.length; at += maxPayloadBytes) {
      const part = block.subarray(at, at + maxPayloadBytes);
      const last = at + part.length === block.length ? frameFlag.endHeaders : 0;
      if (at === 0) this.frame(frameType.headers, endFlag | last, streamId, part);
      else this.frame(frameType.continuation, last, streamId, part);
    }
  }

  /** Makes sure that the chunk has room, and that it will be written. Returns the position. */
  #reserve(bytes: number): number {
    if (!this.#scheduled) {
      this.#scheduled = true;
      process.nextTick(flushLater, this);
    }
    if (this.#at + bytes > this.#chunk.length) {
      if (this.#at > 0) this.#full.push(this.#chunk.subarray(0, this.#at));
      this.#chunk = Buffer.allocUnsafe(Math.max(chunkBytes, bytes));
      this.#at = 0;
    }
    return this.#at;
  }

  /** Writes what has been gathered. */
  flush(): void {
    this.#scheduled = false;
    const socket = this.#socket;
    const full = this.#full;
    const rest = this.#chunk.subarray(0, this.#at);
    // What was written may be read until the kernel has it: the next frames begin behind it, or in a new chunk.
    this.#chunk = this.#chunk.subarray(this.#at);
    if (this.#chunk.length < frameHeadBytes) this.#chunk = none;
    this.#at = 0;
    if (socket.destroyed || socket.writableEnded) {
      this.#full = [];
      return;
    }
    if (full.length === 0) {
      if (rest.length > 0) socket.write(rest);
      return;
    }
    this.#full = [];
    socket.cork();
    for (const chunk of full) socket.write(chunk);
    if (rest.length > 0) socket.write(rest);
    socket.uncork();
  }
}

const none = Buffer.alloc(0);

function flushLater(output: Output): void {
  output.flush();
}
