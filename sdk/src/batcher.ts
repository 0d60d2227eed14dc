import { Code } from "@connectrpc/connect";
import type { Backlog } from "./backlog.ts";
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
  /** Where items are kept besides memory. */
  backlog?: Backlog<T> | undefined;
  /** What an item read back counts towards the limits in bytes; needed with a backlog. */
  sizeOf?(item: T): number;
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
 *
 * With a backlog each item is written there first. Only some of the oldest are in memory, the others are read when
 * there is room, and what is not settled at the end stays there.
 */
export class Batcher<T> {
  readonly #options: BatcherOptions<T>;
  readonly #queue: Queue<T>;
  readonly #parked: Batch<T>[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  readonly #abort = new AbortController();
  readonly #counts = noCounts();
  readonly #flushes = new Flushes(() => this.#queue.held + (this.#options.backlog?.unread ?? 0));
  readonly #pause = new Pause(() => this.#pump());
  #failures = 0;
  #delayTimer: ReturnType<typeof setTimeout> | undefined;
  /** The queue's oldest item has waited its time: all there is may go. */
  #due = false;
  #pumpAsked = false;
  #closing: Promise<void> | undefined;
  /** Items that close() left in the backlog. */
  #left = 0;

  constructor(options: BatcherOptions<T>) {
    this.#options = options;
    const { backlog } = options;
    this.#queue = new Queue(options, () => this.#onTaken(), backlog?.last);
    if (!backlog) return;
    backlog.listen({
      onLost: (count, reason, sequence) => this.#onLost(count, reason, sequence),
      onUnwritten: (sequence, item) => this.#hold({ item, sequence }),
    });
    this.#counts.queued = backlog.unread;
    if (backlog.unread > 0) this.#askToPump();
  }

  /** A copy of the counts. */
  get counts(): DeliveryCounts {
    const { unread = 0, persisted = 0 } = this.#options.backlog ?? {};
    const pending = this.#queue.held + this.#left + unread - persisted;
    return { ...this.#counts, dropped: { ...this.#counts.dropped }, pending, persisted };
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
    if (this.#keep(item, bytes)) return undefined;
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
    this.#leave([...parked, ...queued]);
    this.#flushes.end();
  }

  /** What the backlog has stays there; the rest is dropped. */
  #leave(entries: Entry<T>[]): void {
    for (const entry of entries) {
      if (!entry.place?.kept) {
        this.#settle(entry, closed);
        continue;
      }
      this.#queue.release(entry);
      this.#left++;
    }
  }

  /** Takes an item into the backlog, and into memory where it is next. False where the backlog cannot have it. */
  #keep(item: T, bytes: number): boolean {
    const { backlog } = this.#options;
    if (!backlog) return false;
    const { length, bytes: queuedBytes } = this.#queue;
    const held = !backlog.hasUnread(item) && length < windowItems && queuedBytes < windowBytes;
    const sequence = this.#queue.nextSequence();
    const place = backlog.append(sequence, item, held);
    if (!place) return false;
    if (held) this.#queue.push({ item, bytes, sequence, place }, backlog.isUrgent(item));
    this.#onTaken();
    return true;
  }

  #hold(entry: Omit<Entry<T>, "bytes">): void {
    const { backlog, sizeOf } = this.#options;
    this.#queue.push({ ...entry, bytes: sizeOf?.(entry.item) ?? 0 }, backlog?.isUrgent(entry.item));
  }

  #onLost(count: number, reason: string, sequence: number): void {
    this.#counts.dropped[reason] = (this.#counts.dropped[reason] ?? 0) + count;
    for (let index = 0; index < count; index++) this.#flushes.settled(sequence);
  }

  /** Reads from the backlog until there is enough for all batches that may be under way. */
  #refill(): void {
    const { backlog, maxItems, maxBytes, maxInFlight } = this.#options;
    while (backlog && backlog.unread > 0) {
      if (this.#queue.length >= maxItems * maxInFlight || this.#queue.bytes >= maxBytes * maxInFlight) return;
      const items = backlog.read();
      if (items.length === 0) return;
      for (const item of items) this.#hold(item);
      // They have waited.
      this.#due = true;
    }
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
      this.#refill();
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
      this.#leave(entries);
    } else if (error.reason === "MESSAGE_TOO_LARGE" && entries.length > 1) {
      const half = Math.ceil(entries.length / 2);
      const [first, second] = [entries.slice(0, half), entries.slice(half)];
      this.#parked.unshift({ entries: first, attempts }, { entries: second, attempts });
    } else if (shouldRetry(error, { idempotent: true }) || this.#canWaitFor(error)) {
      const delayMs = this.#park(batch, error.retryDelayMs);
      if (delayMs !== undefined) this.#options.onRetry?.({ error, failures: this.#failures, delayMs });
    } else {
      this.#settleAll(entries, droppedBy(error));
    }
  }

  /** A key can be made valid again. What is on disk can wait for that, what is in memory would only fill it. */
  #canWaitFor({ code }: PulsewireError): boolean {
    return (
      this.#options.backlog !== undefined && (code === Code.Unauthenticated || code === Code.PermissionDenied)
    );
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
    entry.place?.settle();
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

/** With a backlog: what is not read back is kept in memory up to these; what comes more is read when it is its turn. */
const windowItems = 5_000;
const windowBytes = 4 * 1024 * 1024;

const queueFull: FinalOutcome = { status: "dropped", code: "queue_full", message: "The queue was full." };
const closed: FinalOutcome = { status: "dropped", code: "closed", message: "The gateway was closed." };
const exhausted: FinalOutcome = { status: "dropped", code: "attempts", message: "Sent as often as allowed." };

interface Batch<T> {
  entries: Entry<T>[];
  /** Times it was sent. */
  attempts: number;
}
