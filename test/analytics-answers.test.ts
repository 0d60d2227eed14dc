import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create, equals } from "@bufbuild/protobuf";
import {
  type GetAnalyticsResponse,
  GetAnalyticsResponseSchema,
} from "../server/src/gen/pulsewire/ingestion/v1/analytics_pb.js";
import { createRedisAnswers } from "../server/src/ingestion/analytics/answers.ts";
import { testLogger } from "./helpers/cluster.ts";
import { redisIsMissing, startRedis } from "./helpers/redis.ts";

const ttlMs = 500;

/** Computes another answer each time. */
function computer() {
  let computed = 0;
  return {
    compute: async (): Promise<GetAnalyticsResponse> => {
      computed++;
      await sleep(5);
      return create(GetAnalyticsResponseSchema, { totalEvents: BigInt(computed), avgEventsPerUser: 1.5 });
    },
    computed: () => computed,
  };
}

const skip = await redisIsMissing();

describe("answers of analytics in Redis", { skip }, () => {
  test("are the same for all processes until their time is over, also where two compute at once", async () => {
    await using redis = await startRedis();
    const open = () => createRedisAnswers(redis.url, testLogger, ttlMs);
    const [first, second] = await Promise.all([open(), open()]);
    try {
      const { compute, computed } = computer();
      const answers = await Promise.all([
        first.get("t:7d", compute),
        first.get("t:7d", compute),
        second.get("t:7d", compute),
      ]);
      assert.ok(computed() <= 2, "within one process it is computed once");
      const one = answers[0] as GetAnalyticsResponse;
      for (const other of [...answers, await second.get("t:7d", compute), await first.get("t:7d", compute)]) {
        assert.ok(equals(GetAnalyticsResponseSchema, one, other), "processes disagree");
      }
      const before = computed();
      await first.get("t:other", compute);
      assert.equal(computed(), before + 1, "another question has another answer");

      await sleep(ttlMs + 50);
      const later = await second.get("t:7d", compute);
      assert.equal(computed(), before + 2);
      assert.equal(later.totalEvents, BigInt(computed()));
    } finally {
      first.close();
      second.close();
    }
  });

  test("are computed where Redis is away, and a failure is not kept", async () => {
    await using redis = await startRedis();
    const answers = await createRedisAnswers(redis.url, testLogger, ttlMs);
    try {
      await assert.rejects(
        answers.get("k", () => Promise.reject(new Error("no database"))),
        /no database/,
      );
      const { compute, computed } = computer();
      assert.equal((await answers.get("k", compute)).totalEvents, 1n);
      assert.equal((await answers.get("k", compute)).totalEvents, 1n);
      await redis.down();
      assert.equal((await answers.get("k", compute)).totalEvents, 2n);
      assert.equal(computed(), 2);
    } finally {
      answers.close();
    }
  });
});
