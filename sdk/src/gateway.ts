import { Breaker } from "./breaker.ts";
import { type GatewayCounts, sumCounts } from "./counts.ts";
import { createDeliveries, type Deliveries } from "./deliveries.ts";
import type { EventInput } from "./event-input.ts";
import { EventIntake } from "./event-intake.ts";
import type { GatewayOptions, GatewayStore } from "./gateway-options.ts";
import type { WatchedOutcome } from "./ledger.ts";
import { type ProgressInput, packReport } from "./reports.ts";
import { defaultRetryPolicy } from "./retry.ts";
import { type SampleOptions, SamplePacker } from "./samples.ts";
import type { UnaryCaller } from "./unary/caller.ts";

/** How long {@link Gateway.close} tries where nothing is said, in milliseconds. */
const defaultCloseDeadlineMs = 5_000;
/** A gateway that begins with a backlog waits up to this where nothing is said, in milliseconds. */
const defaultStartJitterMs = 2_000;

/**
 * Takes events, samples and progress without blocking and sends them in batches until the server has answered for each
 * one.
 *
 * Without a store everything is held in memory, bounded, and what the process has not sent when it is killed is lost.
 * With one, such as the spool of Node's createGateway(), it is written there first and sent by the next gateway that
 * opens it. Ids of events are made when they are taken and stay, so that sending again never stores one twice.
 */
export class Gateway implements AsyncDisposable {
  readonly #caller: UnaryCaller;
  readonly #breaker: Breaker;
  readonly #deliveries: Deliveries;
  readonly #events: EventIntake;
  readonly #samplePacker = new SamplePacker();
  readonly #store: GatewayStore | undefined;
  readonly #onClosed: () => void;
  #closing: Promise<void> | undefined;

  /**
   * @param caller is closed with the gateway
   * @param store is closed with the gateway
   * @param onClosed called when it is closed
   */
  constructor(
    caller: UnaryCaller,
    options: GatewayOptions = {},
    store?: GatewayStore,
    onClosed: () => void = () => {},
  ) {
    this.#caller = caller;
    this.#store = store;
    this.#onClosed = onClosed;
    this.#breaker = new Breaker({ ...defaultRetryPolicy, ...options.retry }, options.pace);
    const { startJitterMs = defaultStartJitterMs } = options.pace ?? {};
    const unread = store ? store.events.unread + store.samples.unread + store.progress.unread : 0;
    if (unread > 0) this.#breaker.delay(Math.random() * startJitterMs);
    this.#deliveries = createDeliveries(caller, this.#breaker, options, store);
    this.#events = new EventIntake(this.#deliveries.events);
  }

  /**
   * Queues an event; never blocks.
   *
   * @returns `undefined`; only with `whenFull: "wait"` and a full queue a promise of its being taken
   * @throws TypeError where a field has the wrong type
   * @throws QueueFullError with `whenFull: "throw"` and a full queue
   * @throws GatewayClosedError after close()
   */
  event(input: EventInput): Promise<void> | undefined {
    return this.#events.add(input);
  }

  /**
   * Queues an event as {@link event} does and tells what becomes of it, which may take as long as the server is away.
   *
   * @returns its outcome; `persisted` where close() left it in the spool
   * @throws as a rejection, what {@link event} throws
   */
  async eventOutcome(input: EventInput): Promise<WatchedOutcome> {
    return this.#events.watch(input);
  }

  /**
   * Queues a sample; never blocks. A value that is not finite, as broken sensors give, is counted as rejected.
   *
   * @param name such as `cpu_usage`: letters, digits and `_ . : / -`
   * @returns and throws as {@link event}
   */
  metric(name: string, value: number, options: SampleOptions = {}): Promise<void> | undefined {
    const sample = this.#samplePacker.pack(name, value, options);
    if (Number.isFinite(value)) return this.#deliveries.samples.add(sample);
    this.#deliveries.samples.refuse(sample, {
      status: "rejected",
      field: "value",
      code: "double.finite",
      message: `The value is ${value}.`,
    });
    return undefined;
  }

  /**
   * Queues a report of progress on a file; never blocks. Each counts once, however often it is sent.
   *
   * @returns and throws as {@link event}
   */
  progress(input: ProgressInput): Promise<void> | undefined {
    return this.#deliveries.progress.add(packReport(input));
  }

  /** What became of everything so far; a copy. */
  get counts(): GatewayCounts {
    this.#events.encode();
    const { events, samples, progress } = this.#deliveries;
    const each = { events: events.counts, samples: samples.counts, progress: progress.counts };
    return { ...sumCounts(...Object.values(each)), ...each };
  }

  /**
   * Sends what is queued now and waits until all of it is settled, however long the server is away.
   *
   * @param deadlineMs stop waiting after this many milliseconds; what is not settled stays queued. Default: none
   * @returns the counts; `pending` and `persisted` are what is not settled, or came meanwhile
   */
  async flush({ deadlineMs }: { deadlineMs?: number } = {}): Promise<GatewayCounts> {
    this.#events.encode();
    await Promise.all(Object.values(this.#deliveries).map((delivery) => delivery.flush(deadlineMs)));
    return this.counts;
  }

  /**
   * Takes nothing more, flushes, and closes the client and the store. What is not settled at the deadline stays in the
   * store, counted as `persisted`; what is not there is dropped with reason `closed`. Can be called again.
   *
   * @param deadlineMs milliseconds; default 5,000
   * @returns the final counts; nothing is pending
   */
  async close({ deadlineMs = defaultCloseDeadlineMs }: { deadlineMs?: number } = {}): Promise<GatewayCounts> {
    this.#closing ??= this.#close(deadlineMs);
    await this.#closing;
    return this.counts;
  }

  async #close(deadlineMs: number): Promise<void> {
    this.#events.encode();
    await Promise.all(Object.values(this.#deliveries).map((delivery) => delivery.close(deadlineMs)));
    this.#breaker.end();
    this.#caller.close();
    this.#store?.close();
    this.#onClosed();
  }

  /** `await using`: closes with the default deadline. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
