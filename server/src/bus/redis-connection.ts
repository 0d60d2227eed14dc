import { Redis } from "ioredis";
import type { Logger } from "pino";
import { type BusTiming, busTiming, retryDelayMs } from "./bus.ts";

/** How long the start waits for Redis. */
const connectTimeoutMs = 5_000;

/** A connection to Redis, with what all names of this installation begin with. */
export interface RedisConnection {
  readonly client: Redis;
  /** Holds the number of the database: channels reach beyond it, and installations may share a server. */
  readonly prefix: string;
}

/**
 * Connects to Redis and stays connected. While the line is broken commands fail at once. Rejects where Redis cannot be
 * reached at first, without repeating the URL, for it holds the password.
 */
export async function connectRedis(
  url: string,
  logger: Logger,
  timing: BusTiming = busTiming,
): Promise<RedisConnection> {
  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: connectTimeoutMs,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: timing.silenceMs,
    autoResubscribe: false,
    retryStrategy: (attempt) => retryDelayMs(attempt - 1, timing),
    connectionName: "pulsewire",
  });
  let first: unknown;
  client.on("error", (err: unknown) => {
    first ??= err;
    logger.debug({ err }, "Redis connection");
  });
  try {
    await client.connect();
  } catch (error) {
    client.disconnect();
    const why = first instanceof Error ? first.message : String(error);
    throw new Error(`REDIS_URL: Redis cannot be reached (${why})`, { cause: error });
  }
  return { client, prefix: `pulsewire:${client.options.db ?? 0}` };
}
