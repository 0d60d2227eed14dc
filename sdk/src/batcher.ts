import { Code } from "@connectrpc/connect";
import { type DeliveryCounts, noCounts } from "./counts.ts";
import { GatewayClosedError, PulsewireError, toPulsewireError } from "./errors.ts";
import { Flushes } from "./flushes.ts";
import { droppedBy, type FinalOutcome, type SendOutcome } from "./outcome.ts";
import { Pause } from "./pause.ts";
import { type Entry, Queue, type QueueOptions } from "./queue.ts";
import { type RetryPolicy, retryDelayMs, shouldRetry } from "./retry.ts";

/** Options of a {@link Batcher}. */
export interface BatcherOptions<T> extends QueueOptions {
  /** Sends a batch: an outcome for each item, in order; rejects where the whole call failed. */
  send(items: T[], signal: AbortSignal): Promise<SendOutcome[]>;
  /** Called once for each item, when its outcome is final. Must not throw. */
  onOutcome?(item: T, outcome: FinalOutcome): void;
  /** Called when a call has failed and will be made again. Must not throw. */
  onRetry?(retry: RetryNotice): void;
  /** Items in a batch at most. */
  maxItems: number;
  /** Bytes in a batch at most; a larger item goes alone. */
  maxBytes: number;
  /** Milliseconds that an item waits for its batch to fill. */
  maxDelayMs: number;
  /** Batches being sent at most. */
  maxInFlight: number;
  /** How long to wait after a failure. */
  retry: RetryPolicy;
}

/** A call that failed and will be made again. */
export interface RetryNotice {
  /** Why it failed. */
  error: PulsewireError;
  /** Failures in a row, this one included. */
  failures: number;
  /** Milliseconds until then. */
  delayMs: number;
}

/**
 * A bounded queue that is sent in batches until every item has its outcome.
 *
 *     add() ─→ queue ─→ batch ─→ send ─→ settled
 *                         ↑        ├─ "retry" outcomes ─┐
 *                         │        └─ call failed ──────┤
 *                         └────── parked ←── pause ←────┘
 *
 * A batch leaves the queue when it is full, when its oldest item has waited `maxDelayMs`, or when a flush asks for
 * it. After a failure everything pauses, and until a batch has gone through, one at a time is sent: the first to
 * go is the probe that tells whether the server is back.
 */
export class Batcher<T> {
  readonly #options: BatcherOptions<T>;
  readonly #queue: Queue<T>;
  readonly #parked: Batch<T>[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  readonly #abort = new AbortController();
  readonly #counts = noCounts();
  readonly #flushes = new Flushes(() => this.#queue.held);
  readonly #pause = new Pause(() => this.#pump());
  #failures = 0;
  #delayTimer: ReturnType<typeof setTimeout> | undefined;
  /** The queue's oldest item has waited its time: all there is may go. */
  #due = false;
  #pumpAsked = false;
  #closing: Promise<void> | undefined;

  constructor(options: BatcherOptions<T>) {
    this.#options = options;
    this.#queue = new Queue(options, () => this.#onTaken());
  }

  /** A copy of the counts. */
  get counts(): DeliveryCounts {
    return { ...this.#counts, dropped: { ...this.#counts.dropped }, pending: this.#queue.held };
  }

  /**
   * Takes an item; never blocks.
   *
   * @param bytes what the item counts towards the limits in bytes
   * @returns `undefined` when it is taken or dropped; with policy `wait` and a full queue a promise of its being taken
   * @throws QueueFullError with policy `throw`, or where the item could never fit
   * @throws GatewayClosedError after close()
   */
  add(item: T, bytes: number): Promise<void> | undefined {
    if (this.#closing) throw new GatewayClosedError();
    const result = this.#queue.add(item, bytes);
    if (result === "full") this.refuse(item, queueFull);
    return typeof result === "string" ? undefined : result;
  }

  /** Counts an item that gets its outcome without being sent. */
  refuse(item: T, outcome: FinalOutcome): void {
    if (this.#closing) throw new GatewayClosedError();
    this.#counts.queued++;
    this.#count(item, outcome);
  }

  /**
   * Sends what is there now and waits until each item of it has its outcome, however long the server is away.
   * The process does not end by itself meanwhile. Concurrent callers share one promise.
   *
   * @param deadlineMs stop waiting after this many milliseconds; the items stay in the queue
   */
  flush(deadlineMs?: number): Promise<void> {
    return this.#pause.hold(() => {
      const flushed = this.#flushes.wait(this.#queue.lastSequence);
      this.#askToPump();
      return flushed;
    }, deadlineMs);
  }

  /**
   * Takes nothing more, flushes, and drops what is left at the deadline with reason `closed`: afterwards nothing is
   * pending. Further calls share the first one's promise.
   */
  close(deadlineMs: number): Promise<void> {
    this.#closing ??= this.#close(deadlineMs);
    return this.#closing;
  }

  async #close(deadlineMs: number): Promise<void> {
    this.#queue.rejectWaiting();
    await this.flush(deadlineMs);
    clearTimeout(this.#delayTimer);
    this.#pause.end();
    this.#abort.abort();
    await Promise.all(this.#inFlight);
    const parked = this.#parked.splice(0).flatMap(({ entries }) => entries);
    const queued = this.#queue.cut(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
    for (const entry of [...parked, ...queued]) this.#settle(entry, closed);
  }

  #onTaken(): void {
    this.#counts.queued++;
    if (this.#hasFullBatch()) this.#askToPump();
    // The timer holds the process: a program that ends without close() still delivers while the server answers.
    this.#delayTimer ??= setTimeout(() => {
      this.#delayTimer = undefined;
      this.#due = this.#queue.length > 0;
      this.#pump();
    }, this.#options.maxDelayMs);
  }

  #hasFullBatch(): boolean {
    return this.#queue.length >= this.#options.maxItems || this.#queue.bytes >= this.#options.maxBytes;
  }

  /** Batches are made after the caller's own code has run, so that add() costs the same every time. */
  #askToPump(): void {
    if (this.#pumpAsked) return;
    this.#pumpAsked = true;
    queueMicrotask(() => {
      this.#pumpAsked = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (!this.#pause.active && !this.#abort.signal.aborted) {
      if (this.#inFlight.size >= (this.#failures > 0 ? 1 : this.#options.maxInFlight)) return;
      const batch = this.#parked.shift() ?? this.#nextBatch();
      if (!batch) return;
      const delivery = this.#deliver(batch).finally(() => {
        this.#inFlight.delete(delivery);
        this.#pump();
      });
      this.#inFlight.add(delivery);
    }
  }

  #nextBatch(): Batch<T> | undefined {
    const first = this.#queue.firstSequence;
    if (first === undefined) return undefined;
    if (!this.#due && !this.#flushes.wants(first) && !this.#hasFullBatch()) return undefined;
    const entries = this.#queue.cut(this.#options.maxItems, this.#options.maxBytes);
    if (this.#queue.length === 0) this.#due = false;
    return { entries, attempts: 0 };
  }

  async #deliver(batch: Batch<T>): Promise<void> {
    const { entries } = batch;
    batch.attempts++;
    if (batch.attempts > 1) this.#counts.retried += entries.length;
    let outcomes: SendOutcome[];
    try {
      const items = entries.map(({ item }) => item);
      outcomes = await this.#options.send(items, this.#abort.signal);
      if (outcomes.length !== entries.length) {
        const message = `The server gave ${outcomes.length} outcomes for ${entries.length} items.`;
        throw new PulsewireError({ code: Code.DataLoss, message });
      }
    } catch (thrown) {
      this.#failed(batch, toPulsewireError(thrown));
      return;
    }
    const again: Entry<T>[] = [];
    let delayMs: number | undefined;
    for (const [index, entry] of entries.entries()) {
      const outcome = outcomes[index] as SendOutcome;
      if (outcome.status !== "retry") {
        this.#settle(entry, outcome);
        continue;
      }
      again.push(entry);
      if (outcome.delayMs !== undefined) delayMs = Math.max(delayMs ?? 0, outcome.delayMs);
    }
    if (again.length === 0) this.#failures = 0;
    else this.#park({ entries: again, attempts: batch.attempts }, delayMs);
  }

  #failed(batch: Batch<T>, error: PulsewireError): void {
    const { entries, attempts } = batch;
    if (this.#abort.signal.aborted) {
      this.#settleAll(entries, closed);
    } else if (error.reason === "MESSAGE_TOO_LARGE" && entries.length > 1) {
      const half = Math.ceil(entries.length / 2);
      const [first, second] = [entries.slice(0, half), entries.slice(half)];
      this.#parked.unshift({ entries: first, attempts }, { entries: second, attempts });
    } else if (shouldRetry(error, { idempotent: true })) {
      const delayMs = this.#park(batch, error.retryDelayMs);
      if (delayMs !== undefined) this.#options.onRetry?.({ error, failures: this.#failures, delayMs });
    } else {
      this.#settleAll(entries, droppedBy(error));
    }
  }

  /** Puts a batch aside and pauses; the wait in milliseconds, or `undefined` where the batch was given up. */
  #park(batch: Batch<T>, serverDelayMs: number | undefined): number | undefined {
    const { retry } = this.#options;
    // Batches that were in flight together fail together: that is one failure of the server, not several.
    if (!this.#pause.active) this.#failures++;
    const delayMs = retryDelayMs(this.#failures, serverDelayMs, retry);
    this.#pause.begin(delayMs);
    if (batch.attempts >= retry.maxAttempts) {
      this.#settleAll(batch.entries, exhausted);
      return undefined;
    }
    this.#parked.push(batch);
    return delayMs;
  }

  #settleAll(entries: Entry<T>[], outcome: FinalOutcome): void {
    for (const entry of entries) this.#settle(entry, outcome);
  }

  #settle(entry: Entry<T>, outcome: FinalOutcome): void {
    this.#queue.release(entry);
    this.#count(entry.item, outcome);
    this.#flushes.settled(entry.sequence);
  }

  #count(item: T, outcome: FinalOutcome): void {
    if (outcome.status === "dropped") {
      const reason = outcome.code ?? "";
      this.#counts.dropped[reason] = (this.#counts.dropped[reason] ?? 0) + 1;
    } else {
      this.#counts[outcome.status]++;
    }
    this.#options.onOutcome?.(item, outcome);
  }
}

const queueFull: FinalOutcome = { status: "dropped", code: "queue_full", message: "The queue was full." };
const closed: FinalOutcome = { status: "dropped", code: "closed", message: "The gateway was closed." };
const exhausted: FinalOutcome = { status: "dropped", code: "attempts", message: "Sent as often as allowed." };

interface Batch<T> {
  entries: Entry<T>[];
  /** Times it was sent. */
  attempts: number;
}
