import { ConnectionFault, defaultWindowBytes, errorCode, largestWindowBytes } from "./frames.ts";
import type { Output } from "./output.ts";
import type { Http2Stream } from "./stream.ts";

/** What the peer lets us send on a connection, and the streams that wait for it. */
export class SendRoom {
  /** Bytes for all streams together. */
  bytes = defaultWindowBytes;
  /** Bytes that a new stream may send, as the peer has set it. */
  streamBytes = defaultWindowBytes;
  readonly waiting = new Set<Http2Stream>();
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  /** The peer lets all streams together send more. Throws a fault where that is more than can be. */
  widen(more: number): void {
    this.bytes += more;
    if (this.bytes > largestWindowBytes) throw tooWide();
    this.goOn();
  }

  /** The peer lets each stream, those there are and those to come, send this many. */
  resize(streamBytes: number, streams: Iterable<Http2Stream>): void {
    const more = streamBytes - this.streamBytes;
    this.streamBytes = streamBytes;
    for (const stream of [...streams]) if (!stream.widen(more)) throw tooWide();
  }

  /** Those that wait go on, as far as there is room. */
  goOn(): void {
    for (const stream of [...this.waiting]) {
      if (this.bytes <= 0 || this.#output.isBehind) return;
      stream.pump();
    }
  }
}

const tooWide = () => new ConnectionFault(errorCode.flowControl, "too wide a window");
