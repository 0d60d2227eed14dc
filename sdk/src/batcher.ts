import { Code } from "@connectrpc/connect";
import type { Backlog } from "./backlog.ts";
import type { Breaker } from "./breaker.ts";
import type { DeliveryCounts } from "./counts.ts";
import { asPulsewireError, GatewayClosedError, PulsewireError } from "./errors.ts";
import { Flushes } from "./flushes.ts";
import { Ledger, type LedgerListener, type WatchedOutcome } from "./ledger.ts";
import { droppedBy, type FinalOutcome, type SendOutcome } from "./outcome.ts";
import { Pause } from "./pause.ts";
import { type Item, Queue, type QueueOptions } from "./queue.ts";
import { isServerWide, type RetryPolicy, retryDelayMs, shouldRetry } from "./retry.ts";

/** Options of a {@link Batcher}. */
export interface BatcherOptions<T> extends QueueOptions<T>, LedgerListener<T> {
  /**
   * Sends a batch: an outcome for each item, in order; rejects where the whole call failed.
   *
   * @param limitMs what the call may take at most, where it is a probe
   */
  send(items: T[], signal: AbortSignal, limitMs: number | undefined): Promise<SendOutcome[]>;
  /** Called when a call has failed and will be made again. Must not throw. */
  onRetry?: ((retry: RetryNotice) => void) | undefined;
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
 * it. What tells of the server as a whole opens the breaker, which all batchers share; what concerns these items only,
 * such as a quota, pauses this batcher alone.
 *
 * With a backlog each item is written there first. Only some of the oldest are in memory, the others are read when
 * there is room, and what is not settled at the end stays there.
 */
export class Batcher<T extends Item> {
  readonly #options: BatcherOptions<T>;
  readonly #breaker: Breaker;
  readonly #queue: Queue<T>;
  readonly #ledger: Ledger<T>;
  readonly #parked: Batch<T>[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  readonly #abort = new AbortController();
  readonly #flushes = new Flushes(() => this.#queue.held + (this.#options.backlog?.unread ?? 0));
  readonly #pause = new Pause(() => this.#pump());
  #failures = 0;
  #delayTimer: ReturnType<typeof setTimeout> | undefined;
  /** The queue's oldest item has waited its time: all there is may go. */
  #due = false;
  #pumpAsked = false;
  #closing: Promise<void> | undefined;
  /** Sequence of the last item that only the backlog has. */
  #unheld = 0;
  /** Items that close() left in the backlog. */
  #left = 0;

  constructor(options: BatcherOptions<T>, breaker: Breaker) {
    this.#options = options;
    this.#breaker = breaker;
    this.#ledger = new Ledger(options);
    const { backlog } = options;
    const onDropped = (item: T) => this.#settled(item, queueFull);
    this.#queue = new Queue(options, () => this.#onTaken(), onDropped, backlog?.last);
    breaker.onResume(() => this.#pump());
    if (!backlog) return;
    backlog.listen({
      onLost: (count, reason, first, last) => this.#onLost(count, reason, first, last),
      onUnwritten: (item) => this.#hold(item),
    });
    this.#ledger.taken(backlog.unread);
    if (backlog.unread > 0) this.#askToPump();
  }

  /** A copy of the counts. */
  get counts(): DeliveryCounts {
    const { unread = 0, persisted = 0 } = this.#options.backlog ?? {};
    const pending = this.#queue.held + this.#left + unread - persisted;
    return this.#ledger.counts(pending, persisted);
  }

  /**
   * Takes an item; never blocks.
   *
   * @returns `undefined` when it is taken or dropped; with policy `wait` and a full queue a promise of its being taken
   * @throws QueueFullError with policy `throw`, or where the item could never fit
   * @throws GatewayClosedError after close()
   */
  add(item: T): Promise<void> | undefined {
    if (this.#closing) throw new GatewayClosedError();
    if (this.#keep(item)) return undefined;
    const result = this.#queue.add(item);
    if (result === "full") this.refuse(item, queueFull);
    return typeof result === "string" ? undefined : result;
  }

  /** Takes an item as add() does, and tells what becomes of it. Throws what add() throws. */
  async watch(item: T): Promise<WatchedOutcome> {
    const added = this.add(item);
    const inMemory = item.sequence !== this.#unheld;
    await added;
    return item.sequence === 0 ? queueFull : this.#ledger.watch(item.sequence, inMemory);
  }

  /** Counts an item that gets its outcome without being sent. */
  refuse(item: T, outcome: FinalOutcome): void {
    if (this.#closing) throw new GatewayClosedError();
    this.#ledger.taken();
    this.#ledger.settle(item, outcome);
  }

  /**
   * Sends what is there now and waits until each item of it has its outcome, however long the server is away.
   * The process does not end by itself meanwhile. Concurrent callers share one promise.
   *
   * @param deadlineMs stop waiting after this many milliseconds; the items stay in the queue
   */
  flush(deadlineMs?: number): Promise<void> {
    const work = () => {
      const flushed = this.#flushes.wait(this.#queue.lastSequence);
      this.#askToPump();
      return flushed;
    };
    return this.#pause.hold(() => this.#breaker.hold(work), deadlineMs);
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
    for (const { items } of this.#parked.splice(0)) this.#leave(items);
    this.#leave(this.#queue.cut(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY));
    this.#flushes.end();
    this.#ledger.end();
  }

  /** What the backlog has stays there; the rest is dropped. */
  #leave(items: T[]): void {
    for (const item of items) {
      if (!item.place?.keeps(item.sequence)) {
        this.#settle(item, closed);
        continue;
      }
      this.#queue.release(item);
      this.#left++;
    }
  }

  /** Takes an item into the backlog, and into memory where it is next. False where the backlog cannot have it. */
  #keep(item: T): boolean {
    const { backlog } = this.#options;
    if (!backlog) return false;
    const { length, bytes } = this.#queue;
    const held = !backlog.hasUnread(item) && length < windowItems && bytes < windowBytes;
    item.sequence = this.#queue.nextSequence();
    if (!backlog.append(item, held)) {
      item.sequence = 0;
      return false;
    }
    if (held) this.#queue.push(item);
    else this.#unheld = item.sequence;
    this.#onTaken();
    return true;
  }

  #hold(item: T): void {
    this.#queue.push(item);
    this.#ledger.read(item);
  }

  #onLost(count: number, reason: string, first: number, last: number): void {
    this.#ledger.lose(count, reason, first, last);
    for (let index = 0; index < count; index++) this.#flushes.settled(first);
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
    this.#ledger.taken();
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
    while (!this.#pause.active && this.#breaker.admits && !this.#abort.signal.aborted) {
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
    const items = this.#queue.cut(this.#options.maxItems, this.#options.maxBytes);
    if (this.#queue.length === 0) this.#due = false;
    return { items, attempts: 0 };
  }

  async #deliver(batch: Batch<T>): Promise<void> {
    const { items } = batch;
    batch.attempts++;
    if (batch.attempts > 1) this.#ledger.retried(items.length);
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
        this.#settle(item, outcome);
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
      this.#leave(items);
    } else if (error.reason === "MESSAGE_TOO_LARGE" && items.length > 1) {
      const half = Math.ceil(items.length / 2);
      const [first, second] = [items.slice(0, half), items.slice(half)];
      this.#parked.unshift({ items: first, attempts }, { items: second, attempts });
    } else if (shouldRetry(error, { idempotent: true }) || this.#canWaitFor(error)) {
      this.#retry(batch, error, error.retryDelayMs, epoch);
    } else {
      this.#settleAll(items, droppedBy(error));
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
    return (
      this.#options.backlog !== undefined && (code === Code.Unauthenticated || code === Code.PermissionDenied)
    );
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
      this.#settleAll(batch.items, exhausted);
      return false;
    }
    this.#parked.push(batch);
    return true;
  }

  #settleAll(items: T[], outcome: FinalOutcome): void {
    for (const item of items) this.#settle(item, outcome);
  }

  #settle(item: T, outcome: FinalOutcome): void {
    item.place?.settle(item.sequence);
    this.#queue.release(item);
    this.#settled(item, outcome);
  }

  #settled(item: T, outcome: FinalOutcome): void {
    this.#ledger.settle(item, outcome);
    this.#flushes.settled(item.sequence);
  }
}

/** With a backlog: what is not read back is kept in memory up to these; what comes more is read when it is its turn. */
const windowItems = 20_000;
const windowBytes = 8 * 1024 * 1024;

const queueFull: FinalOutcome = { status: "dropped", code: "queue_full", message: "The queue was full." };
const closed: FinalOutcome = { status: "dropped", code: "closed", message: "The gateway was closed." };
const exhausted: FinalOutcome = { status: "dropped", code: "attempts", message: "Sent as often as allowed." };

interface Batch<T> {
  items: T[];
  /** Times it was sent. */
  attempts: number;
}
