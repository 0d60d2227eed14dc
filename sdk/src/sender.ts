import type { SenderOptions } from "./batcher-options.ts";
import type { Breaker } from "./breaker.ts";
import { Code } from "./code.ts";
import { asPulsewireError, PulsewireError } from "./errors.ts";
import { droppedBy, type FinalOutcome, type SendOutcome } from "./outcome.ts";
import { Pause } from "./pause.ts";
import { isServerWide, retryDelayMs, shouldRetry } from "./retry.ts";

/** Where a {@link Sender} has its batches from, and whom it tells what became of them. Nothing may throw. */
export interface BatchSource<T> {
  /** Whether the items are kept besides memory. */
  readonly outlives: boolean;
  /** A batch may be asked for next, or one that was put aside is sent. */
  refill(): void;
  /** The next batch; `undefined` while none is to be sent. */
  next(): T[] | undefined;
  /** So many items are sent again. */
  retried(count: number): void;
  /** An item has its outcome. */
  settle(item: T, outcome: FinalOutcome): void;
  /** The sender was stopped before these had theirs. */
  leave(items: T[]): void;
}

/**
 * Sends batches until every item of them has its outcome, several at the same time.
 *
 *     source ─→ batch ─→ send ─→ settled
 *                 ↑        ├─ "retry" outcomes ─┐
 *                 │        └─ call failed ──────┤
 *                 └────── parked ←── pause ←────┘
 *
 * What tells of the server as a whole opens the breaker, which all senders share; what concerns these items only, such
 * as a quota, pauses this sender alone.
 */
export class Sender<T> {
  readonly #options: SenderOptions<T>;
  readonly #breaker: Breaker;
  readonly #source: BatchSource<T>;
  readonly #parked: Batch<T>[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  readonly #abort = new AbortController();
  readonly #pause = new Pause(() => this.pump());
  #failures = 0;
  #pumpAsked = false;

  constructor(options: SenderOptions<T>, breaker: Breaker, source: BatchSource<T>) {
    this.#options = options;
    this.#breaker = breaker;
    this.#source = source;
    breaker.onResume(() => this.pump());
  }

  /** As Pause.hold(), for whatever may hold up the sending. */
  hold(work: () => Promise<void>, deadlineMs: number | undefined): Promise<void> {
    return this.#pause.hold(() => this.#breaker.hold(work), deadlineMs);
  }

  /** Sends nothing more, and leaves what is under way to the source. */
  async stop(): Promise<void> {
    this.#pause.end();
    this.#abort.abort();
    await Promise.all(this.#inFlight);
    for (const { items } of this.#parked.splice(0)) this.#source.leave(items);
  }

  /** Batches are made after the caller's own code has run, so that add() costs the same every time. */
  askToPump(): void {
    if (this.#pumpAsked) return;
    this.#pumpAsked = true;
    queueMicrotask(() => {
      this.#pumpAsked = false;
      this.pump();
    });
  }

  /** Sends what is to be sent now. */
  pump(): void {
    while (!this.#pause.active && this.#breaker.admits && !this.#abort.signal.aborted) {
      if (this.#inFlight.size >= (this.#failures > 0 ? 1 : this.#options.maxInFlight)) return;
      this.#source.refill();
      const batch = this.#parked.shift() ?? this.#nextBatch();
      if (!batch) return;
      const delivery = this.#deliver(batch).finally(() => {
        this.#inFlight.delete(delivery);
        this.pump();
      });
      this.#inFlight.add(delivery);
    }
  }

  #nextBatch(): Batch<T> | undefined {
    const items = this.#source.next();
    return items && { items, attempts: 0 };
  }

  async #deliver(batch: Batch<T>): Promise<void> {
    const { items } = batch;
    batch.attempts++;
    if (batch.attempts > 1) this.#source.retried(items.length);
    const limitMs = this.#breaker.callLimitMs;
    const epoch = this.#breaker.begin();
    let outcomes: SendOutcome[];
    try {
      outcomes = await this.#options.send(items, this.#abort.signal, limitMs);
      if (outcomes.length !== items.length) {
        const message = `The server gave ${outcomes.length} outcomes for ${items.length} items.`;
        throw new PulsewireError({ code: Code.DataLoss, message });
      }
    } catch (thrown) {
      this.#failed(batch, asPulsewireError(thrown), epoch);
      this.#breaker.ended(epoch);
      return;
    }
    this.#answered(batch, outcomes, epoch);
  }

  #answered({ items, attempts }: Batch<T>, outcomes: SendOutcome[], epoch: number): void {
    const again: T[] = [];
    let delayMs: number | undefined;
    let error: PulsewireError | undefined;
    for (let index = 0; index < items.length; index++) {
      const [item, outcome] = [items[index] as T, outcomes[index] as SendOutcome];
      if (outcome.status !== "retry") {
        this.#source.settle(item, outcome);
        continue;
      }
      again.push(item);
      if (outcome.delayMs !== undefined) delayMs = Math.max(delayMs ?? 0, outcome.delayMs);
      error ??= outcome.error;
    }
    if (error) {
      this.#retry({ items: again, attempts }, error, delayMs, epoch);
      this.#breaker.ended(epoch);
      return;
    }
    this.#breaker.succeeded(epoch);
    if (again.length === 0) {
      this.#failures = 0;
      return;
    }
    this.#pauseFor(delayMs);
    this.#park({ items: again, attempts });
  }

  #failed(batch: Batch<T>, error: PulsewireError, epoch: number): void {
    const { items, attempts } = batch;
    if (this.#abort.signal.aborted) {
      this.#source.leave(items);
    } else if (error.reason === "MESSAGE_TOO_LARGE" && items.length > 1) {
      const half = Math.ceil(items.length / 2);
      const [first, second] = [items.slice(0, half), items.slice(half)];
      this.#parked.unshift({ items: first, attempts }, { items: second, attempts });
    } else if (shouldRetry(error, { idempotent: true }) || this.#canWaitFor(error)) {
      this.#retry(batch, error, error.retryDelayMs, epoch);
    } else {
      this.#giveUp(items, droppedBy(error));
    }
  }

  #retry(batch: Batch<T>, error: PulsewireError, serverDelayMs: number | undefined, epoch: number): void {
    const shared = isServerWide(error);
    const delayMs = shared ? this.#breaker.failed(epoch, serverDelayMs) : this.#pauseFor(serverDelayMs);
    const failures = shared ? this.#breaker.failures : this.#failures;
    if (this.#park(batch)) this.#options.onRetry?.({ error, failures, delayMs });
  }

  /** A key can be made valid again. What is on disk can wait for that, what is in memory would only fill it. */
  #canWaitFor({ code }: PulsewireError): boolean {
    return this.#source.outlives && (code === Code.Unauthenticated || code === Code.PermissionDenied);
  }

  /** Sends nothing of these items' kind for a while; the wait in milliseconds. */
  #pauseFor(serverDelayMs: number | undefined): number {
    if (!this.#pause.active) this.#failures++;
    const delayMs = retryDelayMs(this.#failures, serverDelayMs, this.#options.retry);
    this.#pause.begin(delayMs);
    return delayMs;
  }

  /** Puts a batch aside; false where it was given up. */
  #park(batch: Batch<T>): boolean {
    if (batch.attempts >= this.#options.retry.maxAttempts) {
      this.#giveUp(batch.items, exhausted);
      return false;
    }
    this.#parked.push(batch);
    return true;
  }

  #giveUp(items: T[], outcome: FinalOutcome): void {
    for (const item of items) this.#source.settle(item, outcome);
  }
}

const exhausted: FinalOutcome = { status: "dropped", code: "attempts", message: "Sent as often as allowed." };

interface Batch<T> {
  items: T[];
  /** Times it was sent. */
  attempts: number;
}
