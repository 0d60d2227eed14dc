/** Streams that read by cursor: subscribe first, then read, then wait, so that no wake-up is lost. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Bus } from "../bus/bus.ts";

export interface FollowOptions<T> {
  readonly bus: Bus;
  /** The channel whose messages say that there may be something new. */
  readonly channel: string;
  /** Ends the stream when the caller has gone or the server shuts down. */
  readonly signal: AbortSignal;
  /** Reads what comes after what was read last, a bounded number; empty: nothing new. Holds no transaction when it returns. */
  read(): Promise<readonly T[]>;
  /** The message for a quiet time, with the cursor as it is. */
  keepAlive(): T;
  /** The longest quiet time, milliseconds. */
  readonly keepAliveMs: number;
  /** How often it is read without a message: messages may be lost. Default 2,000 ms. */
  readonly pollMs?: number;
}

const defaultPollMs = 2_000;

/** What `read` gives, as it comes, until the signal is aborted; keep-alives in between. */
export async function* follow<T>(options: FollowOptions<T>): AsyncGenerator<T> {
  const { bus, channel, signal, read, keepAlive, keepAliveMs, pollMs = defaultPollMs } = options;
  let news = true;
  let pause = new AbortController();
  const wake = () => {
    news = true;
    pause.abort();
  };
  const unsubscribe = bus.subscribe(channel, wake);
  const unsubscribeGap = bus.onGap(wake);
  signal.addEventListener("abort", wake);
  let quietSince = performance.now();
  try {
    while (!signal.aborted) {
      news = false;
      const found = await read();
      for (const message of found) yield message;
      if (found.length > 0) {
        quietSince = performance.now();
        continue;
      }
      const quietMs = performance.now() - quietSince;
      if (quietMs >= keepAliveMs) {
        yield keepAlive();
        quietSince = performance.now();
      }
      if (news) continue;
      pause = new AbortController();
      const waitMs = Math.min(pollMs, Math.max(1, keepAliveMs - quietMs));
      // An aborted pause is a wake-up.
      await sleep(waitMs, undefined, { signal: pause.signal, ref: false }).catch(() => {});
    }
    signal.throwIfAborted();
  } finally {
    unsubscribe();
    unsubscribeGap();
    signal.removeEventListener("abort", wake);
  }
}
