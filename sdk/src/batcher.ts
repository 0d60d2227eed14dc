import type { BatcherOptions } from "./batcher-options.ts";
import type { Breaker } from "./breaker.ts";
import type { DeliveryCounts } from "./counts.ts";
import { GatewayClosedError } from "./errors.ts";
import { Flushes } from "./flushes.ts";
import { Ledger, type WatchedOutcome } from "./ledger.ts";
import { droppedBy, type FinalOutcome } from "./outcome.ts";
import { type Item, Queue } from "./queue.ts";
import { Sender } from "./sender.ts";

/**
 * A bounded queue that is sent in batches until every item has its outcome.
 *
 * A batch leaves the queue when it is full, when its oldest item has waited `maxDelayMs`, or when a flush asks for it.
 *
 * With a backlog each item is written there first. Only some of the oldest are in memory, the others are read when
 * there is room, and what is not settled at the end stays there.
 */
export class Batcher<T extends Item> {
  readonly #options: BatcherOptions<T>;
  readonly #queue: Queue<T>;
  readonly #ledger: Ledger<T>;
  readonly #flushes = new Flushes(() => this.#queue.held + (this.#options.backlog?.unread ?? 0));
  readonly #sender: Sender<T>;
  #delayTimer: ReturnType<typeof setTimeout> | undefined;
  /** The queue's oldest item has waited its time: all there is may go. */
  #due = false;
  #closing: Promise<void> | undefined;
  /** Sequence of the last item that only the backlog has. */
  #unheld = 0;
  /** Items that close() left in the backlog. */
  #left = 0;

  constructor(options: BatcherOptions<T>, breaker: Breaker) {
    this.#options = options;
    this.#ledger = new Ledger(options);
    const { backlog } = options;
    const onDropped = (item: T) => this.#settled(item, queueFull);
    this.#queue = new Queue(options, () => this.#onTaken(), onDropped, backlog?.last);
    this.#sender = new Sender<T>(options, breaker, {
      outlives: backlog !== undefined,
      refill: () => this.#refill(),
      next: () => this.#nextItems(),
      retried: (count) => this.#ledger.retried(count),
      settle: (item, outcome) => this.#settle(item, outcome),
      setAside: (item, error) =>
        this.#settle(item, this.#options.backlog?.setAside(item, error) ?? droppedBy(error)),
      leave: (items) => this.#leave(items),
    });
    if (!backlog) return;
    backlog.listen({
      onLost: (count, reason, first, last) => this.#onLost(count, reason, first, last),
      onUnwritten: (item) => this.#hold(item),
    });
    this.#ledger.taken(backlog.unread);
    if (backlog.unread > 0) this.#sender.askToPump();
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

  /** Whether so many items would be taken now, and none refused, dropped for, or kept on a disk. */
  surelyTakes(items: number, bytes: number): boolean {
    return !this.#closing && !this.#options.backlog && this.#queue.hasRoom(items, bytes);
  }

  /** Takes an item as add() does, and tells what becomes of it. Throws what add() throws. */
  async watch(item: T): Promise<WatchedOutcome> {
    const added = this.add(item);
    if (added) await added;
    // One that only the backlog has may be another item by the next turn.
    const { sequence } = item;
    return sequence === 0 ? queueFull : this.#ledger.watch(sequence, sequence !== this.#unheld);
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
      this.#sender.askToPump();
      return flushed;
    };
    return this.#sender.hold(work, deadlineMs);
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
    await this.#sender.stop();
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
    if (!held) item.free?.();
    return true;
  }

  readonly #hold = (item: T): void => {
    this.#queue.push(item);
    this.#ledger.read(item);
  };

  #onLost(count: number, reason: string, first: number, last: number): void {
    this.#ledger.lose(count, reason, first, last);
    for (let index = 0; index < count; index++) this.#flushes.settled(first);
  }

  /** Reads from the backlog until there is enough for all batches that may be under way. */
  #refill(): void {
    const { backlog, maxItems, maxBytes, maxInFlight } = this.#options;
    while (backlog && backlog.unread > 0) {
      if (this.#queue.length >= maxItems * maxInFlight || this.#queue.bytes >= maxBytes * maxInFlight) return;
      if (backlog.read(this.#hold) === 0) return;
      // They have waited.
      this.#due = true;
    }
  }

  #onTaken(): void {
    this.#ledger.taken();
    if (this.#hasFullBatch()) this.#sender.askToPump();
    // The timer holds the process: a program that ends without close() still delivers while the server answers.
    this.#delayTimer ??= setTimeout(this.#endDelay, this.#options.maxDelayMs);
  }

  readonly #endDelay = (): void => {
    this.#delayTimer = undefined;
    this.#due = this.#queue.length > 0;
    this.#sender.pump();
  };

  #hasFullBatch(): boolean {
    return this.#queue.length >= this.#options.maxItems || this.#queue.bytes >= this.#options.maxBytes;
  }

  /** Items for a batch, where one is full, has waited its time, or is wanted by a flush. */
  #nextItems(): T[] | undefined {
    const first = this.#queue.firstSequence;
    if (first === undefined) return undefined;
    if (!this.#due && !this.#flushes.wants(first) && !this.#hasFullBatch()) return undefined;
    const items = this.#queue.cut(this.#options.maxItems, this.#options.maxBytes);
    if (this.#queue.length === 0) this.#due = false;
    return items;
  }

  #settle(item: T, outcome: FinalOutcome): void {
    item.place?.settle(item.sequence);
    this.#queue.release(item);
    this.#settled(item, outcome);
  }

  #settled(item: T, outcome: FinalOutcome): void {
    this.#ledger.settle(item, outcome);
    this.#flushes.settled(item.sequence);
    item.free?.();
  }
}

/** With a backlog: what is not read back is kept in memory up to these; what comes more is read when it is its turn. */
const windowItems = 20_000;
const windowBytes = 8 * 1024 * 1024;

const queueFull: FinalOutcome = { status: "dropped", code: "queue_full", message: "The queue was full." };
const closed: FinalOutcome = { status: "dropped", code: "closed", message: "The gateway was closed." };
