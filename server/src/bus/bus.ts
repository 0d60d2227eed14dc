/**
 * Tells all processes of an installation what has changed: one contract, carried by PostgreSQL's NOTIFY or by Redis.
 * Messages are hints and may be lost when the connection breaks; `onGap` says when that may have happened, and
 * `connected` when it may be happening.
 */
export interface Bus {
  /**
   * Sends a message of at most `maxMessageBytes` to all subscribers of the channel, those of this process included.
   * Those of one sender arrive in order; equal ones that are sent at the same time may arrive as one.
   * Waits a little for a broken connection to come back. Rejects when the message could not be sent; it may then have
   * arrived nevertheless.
   */
  publish(channel: string, message: string): Promise<void>;
  /** Calls the listener for each message; returns the function that ends the subscription. */
  subscribe(channel: string, listener: (message: string) => void): () => void;
  /** Calls the listener when messages may have been missed, after the connection is back. Ends as `subscribe` does. */
  onGap(listener: () => void): () => void;
  /**
   * False from when the connection is known to be broken until `onGap` has been called: what a message would have
   * corrected must not be believed for longer than a second meanwhile.
   */
  readonly connected: boolean;
  /** Ends the connection; what waits to be sent is rejected. */
  close(): Promise<void>;
}

/** Longest message: what PostgreSQL carries in one notification, less the envelope. */
export const maxMessageBytes = 7_000;

/** Times of a bus, in milliseconds. */
export const busTiming = {
  /** How often a quiet connection is tried. */
  heartbeatMs: 1_000,
  /** Without an answer for so long, a connection counts as broken. */
  silenceMs: 2_000,
  /** Pause before the first attempt to connect again; doubles up to `retryMaxMs`. */
  retryMinMs: 50,
  retryMaxMs: 2_000,
  /** How long `publish` waits for a connection. */
  publishTimeoutMs: 3_000,
};

export type BusTiming = typeof busTiming;

/** The pause before the next attempt to connect, with up to a half of it left to chance. */
export function retryDelayMs(attempt: number, { retryMinMs, retryMaxMs }: BusTiming): number {
  const delay = Math.min(retryMinMs * 2 ** Math.min(attempt, 20), retryMaxMs);
  return Math.round(delay * (0.5 + Math.random() / 2));
}
