import type { Place } from "./backlog.ts";
import { GatewayClosedError, QueueFullError } from "./errors.ts";
import { Fifo } from "./fifo.ts";

/** What to do with a new item when the queue is full. */
export type WhenFull = "throw" | "wait" | "drop-newest" | "drop-oldest" | "drop-lowest-priority";

/** Bounds of a {@link Queue}. They hold for what waits and for what has left but is not released. */
export interface QueueOptions<T> {
  /** Items held at most. */
  maxQueueItems: number;
  /** Bytes held at most. */
  maxQueueBytes: number;
  /** What to do when either is reached. */
  whenFull: WhenFull;
  /** Those of a higher level, up to `maxLevel`, leave first; default: all are at 0. */
  levelOf?(item: T): number;
}

/** The highest level. */
export const maxLevel = 10;

/** What a queue knows of an item. It stands in the item itself, for there may be very many. */
export interface Item {
  /** Order of taking, from 1. */
  sequence: number;
  /** Where else it is kept. */
  place: Place | undefined;
  /** What it counts towards limits in bytes. */
  readonly size: number;
  /** Called when it is settled and nobody reads it any more. */
  free?(): void;
}

/** A queue bounded in items and in bytes. An item counts until it is released, wherever it is by then. */
export class Queue<T extends Item> {
  readonly #options: QueueOptions<T>;
  readonly #onTaken: (item: T) => void;
  readonly #onDropped: (item: T) => void;
  readonly #levels: Fifo<T>[] = Array.from({ length: maxLevel + 1 }, () => new Fifo<T>());
  readonly #levelOf: (item: T) => number;
  readonly #waiting = new Fifo<Waiter<T>>();
  /** No level above has anything. */
  #top = 0;
  #length = 0;
  #bytes = 0;
  #held = 0;
  #heldBytes = 0;
  #sequence: number;

  /**
   * @param onTaken called after each item taken by add()
   * @param onDropped called for each item that gives way to a new one; it is released
   * @param last sequences begin after this one
   */
  constructor(options: QueueOptions<T>, onTaken: (item: T) => void, onDropped: (item: T) => void, last = 0) {
    this.#options = options;
    this.#onTaken = onTaken;
    this.#onDropped = onDropped;
    this.#levelOf = options.levelOf ?? (() => 0);
    this.#sequence = last;
  }

  /** Items that wait. */
  get length(): number {
    return this.#length;
  }

  /** Their bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Items taken and not yet released. */
  get held(): number {
    return this.#held;
  }

  /** Sequence of the item taken last, 0 before the first. */
  get lastSequence(): number {
    return this.#sequence;
  }

  /** Sequence of the oldest item that waits. */
  get firstSequence(): number | undefined {
    return this.#oldest()?.peek()?.sequence;
  }

  /** Whether so many items more can be taken. */
  hasRoom(items: number, bytes: number): boolean {
    const { maxQueueItems, maxQueueBytes } = this.#options;
    return (
      this.#waiting.length === 0 &&
      this.#held + items <= maxQueueItems &&
      this.#heldBytes + bytes <= maxQueueBytes
    );
  }

  /** A sequence for an item that is not taken by add(). */
  nextSequence(): number {
    return ++this.#sequence;
  }

  /**
   * Takes an item or does what the policy says.
   *
   * @returns "taken" or "full" (the new item was dropped), or with policy `wait` a promise of its being taken
   * @throws QueueFullError with policy `throw`, or where the item could never fit
   */
  add(item: T): "taken" | "full" | Promise<void> {
    const { size } = item;
    const { whenFull, maxQueueItems, maxQueueBytes } = this.#options;
    if (size > maxQueueBytes) {
      throw new QueueFullError(`An item of ${size} bytes can never fit a queue of ${maxQueueBytes} bytes.`);
    }
    if (this.#waiting.length === 0 && this.#fits(size)) {
      this.#take(item);
      return "taken";
    }
    switch (whenFull) {
      case "wait":
        return new Promise((resolve, reject) => this.#waiting.push({ item, resolve, reject }));
      case "drop-newest":
        return "full";
      case "drop-oldest":
      case "drop-lowest-priority":
        while (!this.#fits(size)) if (!this.#giveWay(item, whenFull)) return "full";
        this.#take(item);
        return "taken";
      default:
        throw new QueueFullError(
          `The queue is full: ${this.#held} of ${maxQueueItems} items, ${this.#heldBytes} of ${maxQueueBytes} bytes.`,
        );
    }
  }

  /** Takes the next items out, highest level first, up to both limits but at least one. They count until they are released. */
  cut(maxItems: number, maxBytes: number): T[] {
    const items = new Array<T>(Math.min(maxItems, this.#length));
    let count = 0;
    let bytes = 0;
    while (count < items.length) {
      const fifo = this.#highest();
      const item = fifo.peek() as T;
      if (count > 0 && bytes + item.size > maxBytes) break;
      fifo.shift();
      items[count++] = item;
      bytes += item.size;
    }
    items.length = count;
    this.#length -= count;
    this.#bytes -= bytes;
    return items;
  }

  /** Gives the item's place to those who wait for one. */
  release(item: T): void {
    this.#held--;
    this.#heldBytes -= item.size;
    if (this.#waiting.length === 0) return;
    for (let next = this.#waiting.peek(); next && this.#fits(next.item.size); next = this.#waiting.peek()) {
      this.#waiting.shift();
      this.#take(next.item);
      next.resolve();
    }
  }

  /** Sends those away who wait for a place. */
  rejectWaiting(): void {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      next.reject(new GatewayClosedError());
    }
  }

  /** Takes an item whatever the bounds say. */
  push(item: T): void {
    const level = this.#levelOf(item);
    (this.#levels[level] as Fifo<T>).push(item);
    if (level > this.#top) this.#top = level;
    this.#length++;
    this.#bytes += item.size;
    this.#held++;
    this.#heldBytes += item.size;
  }

  #fits(bytes: number): boolean {
    const { maxQueueItems, maxQueueBytes } = this.#options;
    return this.#held < maxQueueItems && this.#heldBytes + bytes <= maxQueueBytes;
  }

  #take(item: T): void {
    item.sequence = this.nextSequence();
    this.push(item);
    this.#onTaken(item);
  }

  /** Drops one that waits; false where there is none that may go before the new one. */
  #giveWay(item: T, policy: "drop-oldest" | "drop-lowest-priority"): boolean {
    const fifo = policy === "drop-oldest" ? this.#oldest() : this.#lowest(this.#levelOf(item));
    const dropped = fifo?.shift();
    if (!dropped) return false;
    this.#length--;
    this.#bytes -= dropped.size;
    this.release(dropped);
    this.#onDropped(dropped);
    return true;
  }

  #highest(): Fifo<T> {
    while (this.#top > 0 && this.#levels[this.#top]?.length === 0) this.#top--;
    return this.#levels[this.#top] as Fifo<T>;
  }

  #lowest(upTo: number): Fifo<T> | undefined {
    return this.#levels.slice(0, upTo + 1).find(({ length }) => length > 0);
  }

  #oldest(): Fifo<T> | undefined {
    if (this.#top === 0) return this.#levels[0];
    let oldest: Fifo<T> | undefined;
    for (const fifo of this.#levels) {
      const first = fifo.peek();
      if (first && first.sequence < (oldest?.peek()?.sequence ?? Number.POSITIVE_INFINITY)) oldest = fifo;
    }
    return oldest;
  }
}

interface Waiter<T> {
  item: T;
  resolve(): void;
  reject(error: Error): void;
}
