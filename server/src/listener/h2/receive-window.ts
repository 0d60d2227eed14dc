/** How much a peer may send, on a stream or on a whole connection (RFC 9113, 5.2). */
export class ReceiveWindow {
  readonly #bytes: number;
  #left: number;
  /** What came and is used up, and the peer has not heard of. */
  #used = 0;

  constructor(bytes: number) {
    this.#bytes = bytes;
    this.#left = bytes;
  }

  /** Bytes have come. False: more than the peer may send. */
  take(bytes: number): boolean {
    this.#left -= bytes;
    return this.#left >= 0;
  }

  /** Bytes are used up. Returns what the peer is to be told now that it may send again; 0: nothing yet. */
  giveBack(bytes: number): number {
    this.#used += bytes;
    if (this.#used < this.#bytes / 2) return 0;
    const more = this.#used;
    this.#left += more;
    this.#used = 0;
    return more;
  }
}
