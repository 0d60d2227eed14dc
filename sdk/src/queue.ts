import type { Place } from "./backlog.ts";
import { GatewayClosedError, QueueFullError } from "./errors.ts";
import { Fifo } from "./fifo.ts";

/** What to do with a new item when the queue is full. */
export type WhenFull = "throw" | "drop-newest" | "wait";

/** Bounds of a {@link Queue}. They hold for what waits and for what has left but is not released. */
export interface QueueOptions {
  /** Items held at most. */
  maxQueueItems: number;
  /** Bytes held at most. */
  maxQueueBytes: number;
  /** What to do when either is reached. */
  whenFull: WhenFull;
}

/** An item and what the queue knows of it. */
export interface Entry<T> {
  item: T;
  /** What it counts towards the limits in bytes. */
  bytes: number;
  /** Order of taking, from 1. */
  sequence: number;
  /** Where else it is kept. */
  place?: Place | undefined;
}

/** A queue bounded in items and in bytes. An entry counts until it is released, wherever it is by then. */
export class Queue<T> {
  readonly #options: QueueOptions;
  readonly #onTaken: () => void;
  readonly #entries = new Fifo<Entry<T>>();
  readonly #urgent = new Fifo<Entry<T>>();
  readonly #waiting = new Fifo<Waiter<T>>();
  #bytes = 0;
  #held = 0;
  #heldBytes = 0;
  #sequence = 0;

  /**
   * @param onTaken called after each item taken by add()
   * @param last sequences begin after this one
   */
  constructor(options: QueueOptions, onTaken: () => void, last = 0) {
    this.#options = options;
    this.#onTaken = onTaken;
    this.#sequence = last;
  }

  /** Items that wait. */
  get length(): number {
    return this.#entries.length + this.#urgent.length;
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
    const [urgent, other] = [this.#urgent.peek(), this.#entries.peek()];
    return urgent && other ? Math.min(urgent.sequence, other.sequence) : (urgent ?? other)?.sequence;
  }

  /** A sequence for an item that is not taken by add(). */
  nextSequence(): number {
    return ++this.#sequence;
  }

  /**
   * Takes an item or does what the policy says.
   *
   * @returns "taken" or "full" (policy `drop-newest`), or with policy `wait` a promise of its being taken
   * @throws QueueFullError with policy `throw`, or where the item could never fit
   */
  add(item: T, bytes: number): "taken" | "full" | Promise<void> {
    const { whenFull, maxQueueItems, maxQueueBytes } = this.#options;
    if (bytes > maxQueueBytes) {
      throw new QueueFullError(`An item of ${bytes} bytes can never fit a queue of ${maxQueueBytes} bytes.`);
    }
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#take(item, bytes);
      return "taken";
    }
    if (whenFull === "drop-newest") return "full";
    if (whenFull === "wait") {
      return new Promise((resolve, reject) => this.#waiting.push({ item, bytes, resolve, reject }));
    }
    throw new QueueFullError(
      `The queue is full: ${this.#held} of ${maxQueueItems} items, ${this.#heldBytes} of ${maxQueueBytes} bytes.`,
    );
  }

  /** Takes the oldest entries out, urgent ones first, up to both limits but at least one. They count until they are released. */
  cut(maxItems: number, maxBytes: number): Entry<T>[] {
    const entries: Entry<T>[] = [];
    let bytes = 0;
    while (entries.length < maxItems) {
      const fifo = this.#urgent.length > 0 ? this.#urgent : this.#entries;
      const entry = fifo.peek();
      if (!entry || (entries.length > 0 && bytes + entry.bytes > maxBytes)) break;
      fifo.shift();
      entries.push(entry);
      bytes += entry.bytes;
    }
    this.#bytes -= bytes;
    return entries;
  }

  /** Gives the entry's place to those who wait for one. */
  release(entry: Entry<T>): void {
    this.#held--;
    this.#heldBytes -= entry.bytes;
    for (let next = this.#waiting.peek(); next && this.#fits(next.bytes); next = this.#waiting.peek()) {
      this.#waiting.shift();
      this.#take(next.item, next.bytes);
      next.resolve();
    }
  }

  /** Sends those away who wait for a place. */
  rejectWaiting(): void {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      next.reject(new GatewayClosedError());
    }
  }

  #fits(bytes: number): boolean {
    const { maxQueueItems, maxQueueBytes } = this.#options;
    return this.#held < maxQueueItems && this.#heldBytes + bytes <= maxQueueBytes;
  }

  /** Takes an entry whatever the bounds say. */
  push(entry: Entry<T>, urgent = false): void {
    (urgent ? this.#urgent : this.#entries).push(entry);
    this.#bytes += entry.bytes;
    this.#held++;
    this.#heldBytes += entry.bytes;
  }

  #take(item: T, bytes: number): void {
    this.push({ item, bytes, sequence: this.nextSequence() });
    this.#onTaken();
  }
}

interface Waiter<T> {
  item: T;
  bytes: number;
  resolve(): void;
  reject(error: Error): void;
}
