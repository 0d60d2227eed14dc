import type { SenderOptions } from "./batcher-options.ts";
import type { Breaker } from "./breaker.ts";
import { Code } from "./code.ts";
import { asPulsewireError, PulsewireError } from "./errors.ts";
import { droppedBy, type FinalOutcome, type SendOutcome } from "./outcome.ts";
import { Pause } from "./pause.ts";
import { isServerWide, isSuspect, mayBeRetried, retryDelayMs } from "./retry.ts";
import { type Batch, halves, Suspects } from "./suspects.ts";

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
  /** An item cannot be sent, and nobody has said why: it is kept where there is a place for it, and dropped otherwise. */
  setAside(item: T, error: PulsewireError): void;
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
 * What nobody explained makes its batch a suspect, see {@link Suspects}.
 */
export class Sender<T> {
  readonly #options: SenderOptions<T>;
  readonly #breaker: Breaker;
  readonly #source: BatchSource<T>;
  readonly #parked: Batch<T>[] = [];
  readonly #suspects: Suspects<T>;
  readonly #inFlight: Delivery[] = [];
  #stopped = false;
  readonly #pause = new Pause(() => this.pump());
  #failures = 0;
  #pumpAsked = false;

  constructor(options: SenderOptions<T>, breaker: Breaker, source: BatchSource<T>) {
    this.#options = options;
    this.#breaker = breaker;
    this.#source = source;
    this.#suspects = new Suspects(options.ordered ?? false);
    breaker.onResume(() => this.pump());
  }

  /** As Pause.hold(), for whatever may hold up the sending. */
  hold(work: () => Promise<void>, deadlineMs: number | undefined): Promise<void> {
    return this.#pause.hold(() => this.#breaker.hold(work), deadlineMs);
  }

  /** Sends nothing more, and leaves what is under way to the source. */
  async stop(): Promise<void> {
    this.#pause.end();
    this.#stopped = true;
    for (const { abort } of this.#inFlight) abort.abort();
    await Promise.all(this.#inFlight.map(({ ended }) => ended));
    const batches = [...this.#suspects.batches.splice(0), ...this.#parked.splice(0)];
    for (const { items } of batches) this.#source.leave(items);
  }

  /** Batches are made after the caller's own code has run, so that add() costs the same every time. */
  askToPump(): void {
    if (this.#pumpAsked) return;
    this.#pumpAsked = true;
    queueMicrotask(this.#pumpAsAsked);
  }

  readonly #pumpAsAsked = (): void => {
    this.#pumpAsked = false;
    this.pump();
  };

  /** Sends what is to be sent now. */
  pump(): void {
    while (!this.#pause.active && this.#breaker.admits && !this.#stopped) {
      if (this.#inFlight.length >= (this.#failures > 0 ? 1 : this.#options.maxInFlight)) return;
      this.#source.refill();
      const batch = this.#nextBatch();
      if (!batch) return;
      // Each has a signal of its own: one for all would hold the listeners of the calls before, and all that they hold.
      const abort = new AbortController();
      const ended = this.#deliver(batch, abort.signal).finally(() => {
        this.#inFlight.splice(this.#inFlight.indexOf(delivery), 1);
        this.pump();
      });
      const delivery = { abort, ended };
      this.#inFlight.push(delivery);
    }
  }

  #nextBatch(): Batch<T> | undefined {
    const { batches, full } = this.#suspects;
    if (this.#suspects.isDue(this.#breaker.successes)) return batches.shift();
    const parked = this.#parked.shift();
    if (parked) return parked;
    const items = full ? undefined : this.#source.next();
    return items ? { items, attempts: 0, strikes: 0 } : batches.shift();
  }

  async #deliver(batch: Batch<T>, signal: AbortSignal): Promise<void> {
    const { items } = batch;
    batch.attempts++;
    if (batch.attempts > 1) this.#source.retried(items.length);
    const limitMs = this.#breaker.callLimitMs;
    const epoch = this.#breaker.begin();
    let outcomes: readonly SendOutcome[];
    try {
      outcomes = await this.#options.send(items, signal, limitMs);
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

  #answered(batch: Batch<T>, outcomes: readonly SendOutcome[], epoch: number): void {
    const { items } = batch;
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
      this.#retry({ ...batch, items: again }, error, delayMs, epoch, again.length < items.length);
      this.#breaker.ended(epoch);
      return;
    }
    this.#breaker.succeeded(epoch);
    if (again.length === 0) {
      this.#failures = 0;
      return;
    }
    this.#pauseFor(delayMs);
    const rest = { ...batch, items: again };
    if (!this.#exhausted(rest)) this.#parked.push(rest);
  }

  #failed(batch: Batch<T>, error: PulsewireError, epoch: number): void {
    const { items } = batch;
    if (this.#stopped) {
      this.#source.leave(items);
    } else if (error.reason === "MESSAGE_TOO_LARGE" && items.length > 1) {
      this.#parked.unshift(...halves(batch));
    } else if (mayBeRetried(error) || this.#canWaitFor(error)) {
      this.#retry(batch, error, error.retryDelayMs, epoch);
    } else {
      this.#giveUp(items, droppedBy(error));
    }
  }

  /** @param othersPassed other items of the same batch got through */
  #retry(
    batch: Batch<T>,
    error: PulsewireError,
    serverDelayMs: number | undefined,
    epoch: number,
    othersPassed = false,
  ): void {
    const suspect = isSuspect(error);
    const shared = suspect ? !othersPassed : isServerWide(error);
    const delayMs = shared ? this.#breaker.failed(epoch, serverDelayMs) : this.#pauseFor(serverDelayMs);
    const failures = shared ? this.#breaker.failures : this.#failures;
    if (this.#exhausted(batch)) return;
    if (!suspect) {
      this.#parked.push(batch);
    } else if (!this.#suspects.add(batch, this.#breaker.successes, othersPassed)) {
      for (const item of batch.items) this.#source.setAside(item, error);
      return;
    }
    this.#options.onRetry?.({ error, failures, delayMs });
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

  /** Gives up what was sent as often as allowed. */
  #exhausted({ attempts, items }: Batch<T>): boolean {
    if (attempts < this.#options.retry.maxAttempts) return false;
    this.#giveUp(items, exhausted);
    return true;
  }

  #giveUp(items: T[], outcome: FinalOutcome): void {
    for (const item of items) this.#source.settle(item, outcome);
  }
}

const exhausted: FinalOutcome = { status: "dropped", code: "attempts", message: "Sent as often as allowed." };

interface Delivery {
  abort: AbortController;
  ended: Promise<void>;
}
