import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import { RateLimiterRedis } from "rate-limiter-flexible";
import { busTiming } from "../bus/bus.ts";
import { connectRedis } from "../bus/redis-connection.ts";

/** What was counted under a name in the window that runs. */
export interface Count {
  /** This call included. */
  readonly calls: number;
  /** When the window ends and counting begins anew. */
  readonly resetMs: number;
}

/** Counts calls by name in windows that begin with the first call. */
export interface RateWindows {
  /** Counts one call. A promise only where another machine is asked. */
  count(name: string): Count | Promise<Count>;
  close(): void;
}

/** Length of all windows. */
export const rateWindowMs = 60_000;

/** How long an answer may take; counting must not slow calls down. */
const redisTimeoutMs = 250;
/** How long Redis is left alone after a failure, so that calls do not wait for it in turn. */
const redisPauseMs = 1_000;

/** What windows may be told, for tests. */
export interface WindowOptions {
  /** Names that are counted at the same time; beyond, the ones longest unused begin anew. */
  readonly maxNames: number;
  readonly windowMs?: number;
}

/**
 * Counts in this process: each of several processes has its own count. (The memory store of rate-limiter-flexible keeps
 * a timer for each name and has no bound, and names come from strangers.)
 */
export function createLocalWindows({ maxNames, windowMs = rateWindowMs }: WindowOptions): RateWindows {
  const windows = new LRUCache<string, { calls: number; endsAtMs: number }>({ max: maxNames });
  return {
    count(name) {
      const now = performance.now();
      let window = windows.get(name);
      if (!window || window.endsAtMs <= now) {
        window = { calls: 0, endsAtMs: now + windowMs };
        windows.set(name, window);
      }
      window.calls++;
      return { calls: window.calls, resetMs: window.endsAtMs - now };
    },
    close() {},
  };
}

/** Counts in Redis, for all processes together. While Redis is away each process counts for itself, and says so. */
export async function createRedisWindows(
  url: string,
  logger: Logger,
  { maxNames, windowMs = rateWindowMs }: WindowOptions,
): Promise<RateWindows> {
  const timing = { ...busTiming, silenceMs: redisTimeoutMs };
  const { client, prefix } = await connectRedis(url, logger, timing);
  const local = createLocalWindows({ maxNames, windowMs });
  const limiter = new RateLimiterRedis({
    storeClient: client,
    keyPrefix: `${prefix}:calls`,
    // Limits differ from name to name and may change: here is only counted.
    points: Number.MAX_SAFE_INTEGER,
    duration: Math.ceil(windowMs / 1_000),
    rejectIfRedisNotReady: true,
  });
  let away = false;
  let askAgainAtMs = 0;

  const ask = async (name: string): Promise<Count> => {
    try {
      const { consumedPoints, msBeforeNext } = await limiter.consume(name);
      if (away) logger.info("calls are counted in Redis again");
      away = false;
      return { calls: consumedPoints, resetMs: msBeforeNext };
    } catch (err) {
      if (!away) logger.warn({ err }, "Redis is away: each process counts calls for rate limits by itself");
      away = true;
      askAgainAtMs = performance.now() + redisPauseMs;
      return local.count(name);
    }
  };
  return {
    count: (name) => (away && performance.now() < askAgainAtMs ? local.count(name) : ask(name)),
    close: () => client.disconnect(),
  };
}
