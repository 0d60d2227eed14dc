import { ConnectionFault, errorCode, largestStreamId, protocolFault } from "./frames.ts";

/** Streams that were ended here are remembered, the last so many: what their peer had sent before it heard of it is no fault. */
const maxEndedHere = 1_000;

/** Which streams a peer has opened, which of them are served, and what may still come for those that are over. */
export class StreamIds {
  #last = 0;
  #lastServed = largestStreamId;
  readonly #endedHere = new Set<number>();

  /** The last that the peer has opened. */
  get last(): number {
    return this.#last;
  }

  /** Whether those that the peer opens from now on are not served. */
  get isClosed(): boolean {
    return this.#lastServed < largestStreamId;
  }

  /** The peer opens one. False: too late to be served. */
  open(streamId: number): boolean {
    this.#last = streamId;
    return streamId <= this.#lastServed;
  }

  /** Serves no further ones. */
  close(): void {
    this.#lastServed = this.#last;
  }

  endHere(streamId: number): void {
    this.#endedHere.add(streamId);
    if (this.#endedHere.size <= maxEndedHere) return;
    const [oldest] = this.#endedHere;
    this.#endedHere.delete(oldest as number);
  }

  /** A frame for a stream that is not there is late, unless there never was one. */
  mustHaveBeen(streamId: number): void {
    if (streamId === 0 || streamId % 2 === 0 || streamId > this.#last)
      throw protocolFault("a frame for a stream that never was");
  }

  /** A part of a request whose stream is over: it was under way when the stream was ended here, or it breaks the protocol. */
  mayBeLate(streamId: number): void {
    this.mustHaveBeen(streamId);
    if (this.#endedHere.has(streamId) || streamId > this.#lastServed) return;
    throw new ConnectionFault(errorCode.streamClosed, "the peer had ended this stream");
  }
}
