import type { Http2Stream } from "./stream.ts";

const leastSlots = 8;

/** The open streams of a connection by their number. No Map; see `RunningList` for the reason. */
export class StreamTable {
  /** A power of two of them. Numbers follow each other, so that seldom two streams share one. */
  #slots: (Http2Stream | undefined)[] = new Array(leastSlots).fill(undefined);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): Http2Stream | undefined {
    let stream = this.#slots[this.#slotOf(id)];
    while (stream && stream.id !== id) stream = stream.nextInSlot;
    return stream;
  }

  /** Takes in a stream whose number is new. */
  add(stream: Http2Stream): void {
    if (this.#size === this.#slots.length) this.#grow();
    this.#put(stream);
    this.#size++;
  }

  delete(stream: Http2Stream): void {
    const slot = this.#slotOf(stream.id);
    let before: Http2Stream | undefined;
    let found = this.#slots[slot];
    while (found && found !== stream) {
      before = found;
      found = found.nextInSlot;
    }
    if (!found) return;
    if (before) before.nextInSlot = stream.nextInSlot;
    else this.#slots[slot] = stream.nextInSlot;
    stream.nextInSlot = undefined;
    this.#size--;
  }

  all(): Http2Stream[] {
    const all: Http2Stream[] = [];
    for (const first of this.#slots) for (let one = first; one; one = one.nextInSlot) all.push(one);
    return all;
  }

  #slotOf(id: number): number {
    return (id >>> 1) & (this.#slots.length - 1);
  }

  #put(stream: Http2Stream): void {
    const slot = this.#slotOf(stream.id);
    stream.nextInSlot = this.#slots[slot];
    this.#slots[slot] = stream;
  }

  #grow(): void {
    const streams = this.all();
    this.#slots = new Array(2 * this.#slots.length).fill(undefined);
    for (const stream of streams) this.#put(stream);
  }
}
