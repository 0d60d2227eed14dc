import type { Backlog } from "./backlog.ts";
import type { PulsewireError } from "./errors.ts";
import type { LedgerListener } from "./ledger.ts";
import type { SendOutcome } from "./outcome.ts";
import type { QueueOptions } from "./queue.ts";
import type { RetryPolicy } from "./retry.ts";

/** Options of a Batcher. */
export interface BatcherOptions<T> extends QueueOptions<T>, LedgerListener<T>, SenderOptions<T> {
  /** Items in a batch at most. */
  maxItems: number;
  /** Bytes in a batch at most; a larger item goes alone. */
  maxBytes: number;
  /** Milliseconds that an item waits for its batch to fill. */
  maxDelayMs: number;
  /** Where items are kept besides memory. */
  backlog?: Backlog<T> | undefined;
}

/** How a batcher sends. */
export interface SenderOptions<T> {
  /**
   * Sends a batch: an outcome for each item, in order; rejects where the whole call failed.
   *
   * @param limitMs what the call may take at most, where it is a probe
   */
  send(items: T[], signal: AbortSignal, limitMs: number | undefined): Promise<readonly SendOutcome[]>;
  /** Called when a call has failed and will be made again. Must not throw. */
  onRetry?: ((retry: RetryNotice) => void) | undefined;
  /** Batches being sent at most. */
  maxInFlight: number;
  /** No batch is sent before an older one. */
  ordered?: boolean;
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
