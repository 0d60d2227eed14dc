import type { Backlog } from "./backlog.ts";
import type { RetryNotice } from "./batcher-options.ts";
import type { PaceOptions } from "./breaker.ts";
import type { FinalOutcome } from "./outcome.ts";
import type { PackedEvent } from "./packed-event.ts";
import type { WhenFull } from "./queue.ts";
import type { PackedReport } from "./reports.ts";
import type { RetryPolicy } from "./retry.ts";
import type { QueuedSample } from "./samples.ts";

/** When a batch is sent: at the first of these. */
export interface BatchOptions {
  /** Items. Default 500. */
  maxItems?: number;
  /** Encoded bytes. Default 1 MiB; a larger item goes alone. */
  maxBytes?: number;
  /** Milliseconds since its oldest item was queued. Default 1,000. */
  maxDelayMs?: number;
}

/** Bounds of what is held in memory, for events, samples and progress each. */
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
   * What `event()`, `metric()` and `progress()` do when the queue is full: `throw` a QueueFullError (default), `wait`
   * returns a promise of the item's being taken, `drop-newest` drops the new item, `drop-oldest` the one that has waited
   * longest, `drop-lowest-priority` the oldest of the lowest priority, the new one where it is lower still. What is
   * dropped is counted with reason `queue_full`.
   */
  whenFull?: WhenFull;
  /** Batches of events, and of samples, being sent at the same time. Default 2. */
  maxInFlight?: number;
  /** Events of this priority and above are sent before all that waits. Default 8. */
  highPriority?: number;
  /** Waits after a failure. Defaults: {@link defaultRetryPolicy}. */
  retry?: Partial<RetryPolicy>;
  /** How it comes back after an outage. */
  pace?: PaceOptions;
  /** Milliseconds that one call may take. Default: that of the client. */
  timeoutMs?: number;
  /** Called once for each item when it is settled for good, in no promised order. */
  onOutcome?(outcome: ItemSettled): void;
  /**
   * Called when items are given up. Default: the first of each reason, and then one a minute at most, is written as a
   * warning of the process or the console.
   */
  onDrop?(drop: DropNotice): void;
  /** Called when a call has failed and will be made again. */
  onRetry?(retry: RetryNotice): void;
}

/** Items that were given up. */
export interface DropNotice {
  /** What they are. */
  type: "event" | "sample" | "progress";
  /** Why; see {@link DropReason}. */
  reason: string;
  /** How many. */
  count: number;
  /** The same for a person. */
  message: string;
}

/** What an item is, as it is told of. */
export type ItemIdentity =
  | { type: "event"; eventId: string }
  | { type: "sample"; name: string; timestamp: number; value: number }
  | { type: "progress"; clientKrn: string; filename: string; updateId: string };

/** An item that is settled. */
export type ItemSettled = FinalOutcome & ItemIdentity;

/** Keeps what is not delivered, so that it outlives the process. */
export interface GatewayStore {
  events: Backlog<PackedEvent>;
  samples: Backlog<QueuedSample>;
  progress: Backlog<PackedReport>;
  /** Writes everything and gives it free for the next process. */
  close(): void;
}
