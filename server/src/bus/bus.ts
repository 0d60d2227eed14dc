/**
 * Tells all processes of an installation what has changed: one contract, carried by PostgreSQL's NOTIFY or by Redis.
 * Messages are hints and may be lost when the connection breaks; `onGap` says when that may have happened.
 */
export interface Bus {
  /** Sends a message of at most `maxMessageBytes` to all subscribers of the channel, those of this process included. */
  publish(channel: string, message: string): Promise<void>;
  /** Calls the listener for each message; returns the function that ends the subscription. */
  subscribe(channel: string, listener: (message: string) => void): () => void;
  /** Calls the listener when messages may have been missed, after the connection is back. Ends as `subscribe` does. */
  onGap(listener: () => void): () => void;
  close(): Promise<void>;
}

/** Longest message: what PostgreSQL carries in one notification, less the envelope. */
export const maxMessageBytes = 7_000;
