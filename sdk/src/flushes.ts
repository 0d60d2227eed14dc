/**
 * Who waits for which items. There are at most two waits: the one under way, and the one for those who asked after
 * newer items had come; callers of the same one share its promise.
 */
export class Flushes {
  readonly #pending: () => number;
  #current: Wait | undefined;
  #next: Wait | undefined;

  /** @param pending how many items are not settled */
  constructor(pending: () => number) {
    this.#pending = pending;
  }

  /** Settles when all items up to this one are settled. */
  wait(sequence: number): Promise<void> {
    if (this.#current && this.#current.upTo === sequence) return this.#current.promise;
    if (this.#pending() === 0) return Promise.resolve();
    if (!this.#current) {
      this.#current = { upTo: sequence, left: this.#pending(), ...Promise.withResolvers<void>() };
      return this.#current.promise;
    }
    this.#next ??= { upTo: sequence, left: 0, ...Promise.withResolvers<void>() };
    this.#next.upTo = sequence;
    this.#next.left = this.#pending();
    return this.#next.promise;
  }

  /** Whether somebody waits for this item. */
  wants(sequence: number): boolean {
    return sequence <= ((this.#next ?? this.#current)?.upTo ?? 0);
  }

  /** Nothing more will be settled: nobody waits any longer. */
  end(): void {
    this.#current?.resolve();
    this.#next?.resolve();
    this.#current = undefined;
    this.#next = undefined;
  }

  /** Tells that an item is settled. */
  settled(sequence: number): void {
    if (!this.#current) return;
    if (sequence <= this.#current.upTo) this.#current.left--;
    if (this.#next && sequence <= this.#next.upTo) this.#next.left--;
    while (this.#current?.left === 0) {
      this.#current.resolve();
      this.#current = this.#next;
      this.#next = undefined;
    }
  }
}

interface Wait {
  /** Sequence of the last item it is for. */
  upTo: number;
  /** How many of these are not settled. */
  left: number;
  promise: Promise<void>;
  resolve(): void;
}
