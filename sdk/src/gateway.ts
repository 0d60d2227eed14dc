import type { Backlog } from "./backlog.ts";
import { Batcher, type RetryNotice } from "./batcher.ts";
import type { PulsewireClient } from "./client.ts";
import { type GatewayCounts, sumCounts } from "./counts.ts";
import { type EventInput, type PackedEvent, packEvent, toIngestRequest } from "./events.ts";
import { type FinalOutcome, fromItemOutcome } from "./outcome.ts";
import type { WhenFull } from "./queue.ts";
import { defaultRetryPolicy, type RetryPolicy } from "./retry.ts";
import {
  groupSamples,
  type QueuedSample,
  type SampleOptions,
  SamplePacker,
  sizeOfSample,
  toSampleOutcomes,
  toSeriesSamples,
} from "./samples.ts";

/** When a batch is sent: at the first of these. */
export interface BatchOptions {
  /** Items. Default 500. */
  maxItems?: number;
  /** Encoded bytes. Default 1 MiB; a larger item goes alone. */
  maxBytes?: number;
  /** Milliseconds since its oldest item was queued. Default 1,000. */
  maxDelayMs?: number;
}

/** Bounds of what is held in memory, for events and for samples each. */
export interface QueueLimits {
  /** Items, those being sent included. Default 100,000. */
  maxItems?: number;
  /** Encoded bytes, those being sent included. Default 64 MiB. */
  maxBytes?: number;
}

/** How a gateway batches, retries and tells. */
export interface GatewayOptions {
  /** The store of samples that name none. Default: that of the API key. */
  storeId?: string;
  /** When a batch is sent. */
  batch?: BatchOptions;
  /** What is held in memory at most. */
  queue?: QueueLimits;
  /**
   * What `event()` and `metric()` do when the queue is full: `throw` a QueueFullError (default), `drop-newest`
   * counts the new item as dropped with reason `queue_full`, `wait` returns a promise of its being taken.
   */
  whenFull?: WhenFull;
  /** Batches of events, and of samples, being sent at the same time. Default 2. */
  maxInFlight?: number;
  /** Waits after a failure. Defaults: {@link defaultRetryPolicy}. */
  retry?: Partial<RetryPolicy>;
  /** Milliseconds that one call may take. Default: that of the client. */
  timeoutMs?: number;
  /** Called once for each item when it is settled for good, in no promised order. */
  onOutcome?(outcome: ItemSettled): void;
  /** Called when a call has failed and will be made again. */
  onRetry?(retry: RetryNotice): void;
}

/** An event or sample that is settled. */
export type ItemSettled = FinalOutcome &
  ({ type: "event"; eventId: string } | { type: "sample"; name: string; timestamp: number; value: number });

/** Keeps what is not delivered, so that it outlives the process. */
export interface GatewayStore {
  events: Backlog<PackedEvent>;
  samples: Backlog<QueuedSample>;
  /** Writes everything and gives it free for the next process. */
  close(): void;
}

/** How long {@link Gateway.close} tries where nothing is said, in milliseconds. */
const defaultCloseDeadlineMs = 5_000;

/**
 * Takes events and samples without blocking and sends them in batches until the server has answered for each one.
 *
 * Without a store everything is held in memory, bounded, and what the process has not sent when it is killed is lost.
 * With one, such as the spool of Node's createGateway(), it is written there first and sent by the next gateway that
 * opens it. Ids of events are made when they are taken and stay, so that sending again never stores one twice.
 */
export class Gateway implements AsyncDisposable {
  readonly #client: PulsewireClient;
  readonly #events: Batcher<PackedEvent>;
  readonly #samples: Batcher<QueuedSample>;
  readonly #packer = new SamplePacker();
  readonly #store: GatewayStore | undefined;
  #closing: Promise<void> | undefined;

  /**
   * @param client is closed with the gateway
   * @param store is closed with the gateway
   */
  constructor(client: PulsewireClient, options: GatewayOptions = {}, store?: GatewayStore) {
    this.#client = client;
    this.#store = store;
    const { onOutcome = () => {}, onRetry = () => {}, storeId = "", timeoutMs, whenFull = "throw" } = options;
    const call = (signal: AbortSignal) => ({ signal, ...(timeoutMs !== undefined && { timeoutMs }) });
    const settled = guard(onOutcome);
    const shared = {
      maxItems: options.batch?.maxItems ?? 500,
      maxBytes: options.batch?.maxBytes ?? 1024 * 1024,
      maxDelayMs: options.batch?.maxDelayMs ?? 1_000,
      maxInFlight: options.maxInFlight ?? 2,
      maxQueueItems: options.queue?.maxItems ?? 100_000,
      maxQueueBytes: options.queue?.maxBytes ?? 64 * 1024 * 1024,
      whenFull,
      retry: { ...defaultRetryPolicy, ...options.retry },
      onRetry: guard(onRetry),
    };
    this.#events = new Batcher({
      ...shared,
      backlog: store?.events,
      sizeOf: ({ bytes }) => bytes.length,
      send: async (events, signal) => {
        const { outcomes } = await client.ingestion.ingestEvents(toIngestRequest(events), call(signal));
        return outcomes.map(fromItemOutcome);
      },
      onOutcome: ({ id }, outcome) => settled({ type: "event", eventId: id, ...outcome }),
    });
    this.#samples = new Batcher({
      ...shared,
      backlog: store?.samples,
      sizeOf: sizeOfSample,
      send: async (samples, signal) => {
        const groups = groupSamples(samples);
        // Without `sentAt`: a correction that differs with each sending would turn a repeated sample into a new one.
        const response = await client.metrics.writeSamples(
          { series: groups.map((group) => toSeriesSamples(group, samples)), storeId, allowPartial: true },
          call(signal),
        );
        return toSampleOutcomes(groups, samples.length, response);
      },
      onOutcome: ({ series: { name }, timeMs, value }, outcome) =>
        settled({ type: "sample", name, timestamp: timeMs, value, ...outcome }),
    });
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
    const event = packEvent(input);
    return this.#events.add(event, event.bytes.length);
  }

  /**
   * Queues a sample; never blocks. A value that is not finite, as broken sensors give, is counted as rejected.
   *
   * @param name such as `cpu_usage`: letters, digits and `_ . : / -`
   * @returns and throws as {@link event}
   */
  metric(name: string, value: number, options: SampleOptions = {}): Promise<void> | undefined {
    const sample = this.#packer.pack(name, value, options);
    if (Number.isFinite(value)) return this.#samples.add(sample, sizeOfSample(sample));
    this.#samples.refuse(sample, {
      status: "rejected",
      field: "value",
      code: "double.finite",
      message: `The value is ${value}.`,
    });
    return undefined;
  }

  /** What became of everything so far; a copy. */
  get counts(): GatewayCounts {
    const [events, samples] = [this.#events.counts, this.#samples.counts];
    return { ...sumCounts(events, samples), events, samples };
  }

  /**
   * Sends what is queued now and waits until all of it is settled, however long the server is away.
   *
   * @param deadlineMs stop waiting after this many milliseconds; what is not settled stays queued. Default: none
   * @returns the counts; `pending` and `persisted` are what is not settled, or came meanwhile
   */
  async flush({ deadlineMs }: { deadlineMs?: number } = {}): Promise<GatewayCounts> {
    await Promise.all([this.#events.flush(deadlineMs), this.#samples.flush(deadlineMs)]);
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
    await Promise.all([this.#events.close(deadlineMs), this.#samples.close(deadlineMs)]);
    this.#client.close();
    this.#store?.close();
  }

  /** `await using`: closes with the default deadline. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A hook that throws is an uncaught exception, as in any event handler; it must not stop the delivery. */
function guard<T>(hook: (value: T) => void): (value: T) => void {
  return (value) => {
    try {
      hook(value);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  };
}
