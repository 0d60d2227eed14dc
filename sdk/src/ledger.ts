import { type DeliveryCounts, noCounts } from "./counts.ts";
import type { FinalOutcome } from "./outcome.ts";
import type { Item } from "./queue.ts";

/** What became of an item that somebody asked for: settled, or left in the spool for the next gateway. */
export type WatchedOutcome = FinalOutcome | { status: "persisted" };

/** Whom a {@link Ledger} tells. Nothing may throw. */
export interface LedgerListener<T> {
  /** Called once for each item, when its outcome is final. */
  onOutcome?: ((item: T, outcome: FinalOutcome) => void) | undefined;
  /** Called when items are given up. */
  onDrop?: ((reason: string, count: number, message: string) => void) | undefined;
}

/** Counts what becomes of items, and tells those who want to know. */
export class Ledger<T extends Item> {
  readonly #listener: LedgerListener<T>;
  readonly #counts = noCounts();
  readonly #watched = new Map<number, Watch>();

  constructor(listener: LedgerListener<T>) {
    this.#listener = listener;
  }

  /** A copy, with what waits given. */
  counts(pending: number, persisted: number): DeliveryCounts {
    return { ...this.#counts, dropped: { ...this.#counts.dropped }, pending, persisted };
  }

  taken(count = 1): void {
    this.#counts.queued += count;
  }

  retried(count: number): void {
    this.#counts.retried += count;
  }

  /** What becomes of the item with this sequence. */
  watch(sequence: number, inMemory: boolean): Promise<WatchedOutcome> {
    const { promise, resolve } = Promise.withResolvers<WatchedOutcome>();
    this.#watched.set(sequence, { resolve, inMemory });
    return promise;
  }

  /** The item is in memory now, so that it cannot be lost on the disk. */
  read({ sequence }: T): void {
    if (this.#watched.size === 0) return;
    const watch = this.#watched.get(sequence);
    if (watch) watch.inMemory = true;
  }

  /** The item has its outcome. */
  settle(item: T, outcome: FinalOutcome): void {
    if (outcome.status === "dropped") this.#drop(outcome.code ?? "", 1, outcome.message ?? "");
    else this.#counts[outcome.status]++;
    this.#listener.onOutcome?.(item, outcome);
    if (this.#watched.size === 0) return;
    this.#watched.get(item.sequence)?.resolve(outcome);
    this.#watched.delete(item.sequence);
  }

  /** Items are lost of which only this is known. */
  lose(count: number, code: string, first: number, last: number): void {
    const message = "The spool lost it.";
    this.#drop(code, count, message);
    for (const [sequence, { resolve, inMemory }] of this.#watched) {
      if (inMemory || sequence < first || sequence > last) continue;
      this.#watched.delete(sequence);
      resolve({ status: "dropped", code, message });
    }
  }

  /** Nothing more is settled: what is still watched is in the spool. */
  end(): void {
    for (const { resolve } of this.#watched.values()) resolve({ status: "persisted" });
    this.#watched.clear();
  }

  #drop(reason: string, count: number, message: string): void {
    this.#counts.dropped[reason] = (this.#counts.dropped[reason] ?? 0) + count;
    this.#listener.onDrop?.(reason, count, message);
  }
}

interface Watch {
  resolve(outcome: WatchedOutcome): void;
  /** Otherwise it is on the disk only. */
  inMemory: boolean;
}
