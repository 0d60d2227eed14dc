/** Keeps answers for some seconds: in this process, or in Redis, so that all processes give the same. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import { connectRedis } from "../../bus/redis-connection.ts";
import {
  type GetAnalyticsResponse,
  GetAnalyticsResponseSchema,
} from "../../gen/pulsewire/ingestion/v1/analytics_pb.js";

export interface AnalyticsAnswers {
  /** The answer under a key, computed where none is kept; calls at the same time wait for the same computing. */
  get(key: string, compute: () => Promise<GetAnalyticsResponse>): Promise<GetAnalyticsResponse>;
  close(): void;
}

const maxAnswers = 5_000;

export function createLocalAnswers(ttlMs: number): AnalyticsAnswers {
  const kept = new LRUCache<string, Promise<GetAnalyticsResponse>>({ max: maxAnswers, ttl: ttlMs });
  return {
    get(key, compute) {
      const known = kept.get(key);
      if (known) return known;
      const answer = compute();
      kept.set(key, answer);
      answer.catch(() => {
        if (kept.peek(key) === answer) kept.delete(key);
      });
      return answer;
    },
    close: () => kept.clear(),
  };
}

export async function createRedisAnswers(
  url: string,
  logger: Logger,
  ttlMs: number,
): Promise<AnalyticsAnswers> {
  const { client, prefix } = await connectRedis(url, logger);
  const computing = new Map<string, Promise<GetAnalyticsResponse>>();
  const read = async (name: string) => {
    const kept = await client.getBuffer(name);
    return kept ? fromBinary(GetAnalyticsResponseSchema, kept) : undefined;
  };
  const find = async (name: string, compute: () => Promise<GetAnalyticsResponse>) => {
    try {
      const kept = await read(name);
      if (kept) return kept;
    } catch (err) {
      logger.debug({ err }, "analytics are computed without Redis");
      return compute();
    }
    const answer = await compute();
    try {
      // Whoever came first is believed by all.
      const bytes = Buffer.from(toBinary(GetAnalyticsResponseSchema, answer));
      const stored = await client.set(name, bytes, "PX", ttlMs, "NX");
      return stored === null ? ((await read(name)) ?? answer) : answer;
    } catch (err) {
      logger.debug({ err }, "analytics are not kept in Redis");
      return answer;
    }
  };
  return {
    get(key, compute) {
      const running = computing.get(key);
      if (running) return running;
      const answer = find(`${prefix}:analytics:${key}`, compute).finally(() => computing.delete(key));
      computing.set(key, answer);
      return answer;
    },
    close: () => client.disconnect(),
  };
}
