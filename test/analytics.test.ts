import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { buildDue } from "../server/src/ingestion/rollups/build.ts";
import { assertFails } from "./helpers/errors.ts";
import { assertRecounted, untilProcessed } from "./helpers/recount.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const floor = (ms: number) => Math.floor(ms / minute) * minute;

/** Ingestion of a tenant of its own. */
async function client(server: TestServer, slug: string) {
  const tenant = await server.register(slug);
  const session = grpcSession(server.url, { "x-api-key": tenant.apiKey });
  const ingestion = createClient(IngestionService, session.transport);
  return { ingestion, tenantId: tenant.tenantId, [Symbol.dispose]: session[Symbol.dispose] };
}

/** A draw of events, spread over some days and denser towards the end. */
function drawn(count: number, spanMs: number, endMs: number, random: () => number) {
  return Array.from({ length: count }, (_, index) => {
    const user = Math.floor(random() ** 2 * 40);
    return {
      eventId: `e${index}-${Math.floor(random() * 1e12)}`,
      eventType: ["page_view", "click", "purchase"][Math.floor(random() * 3)] as string,
      userId: random() < 0.1 ? "" : `user_${user}`,
      sessionId: random() < 0.2 ? "" : `session_${user}_${Math.floor(random() * 4)}`,
      timestamp: timestampFromMs(Math.floor(endMs - random() ** 3 * spanMs)),
      metrics: random() < 0.5 ? { duration: Math.round(random() * 1_000) / 8, "size ünicode": index } : {},
    };
  });
}

/** A generator with a seed, so that a failure can be repeated. */
function seeded(seed: number) {
  let state = seed | 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (state >>> 0) / 2 ** 32;
  };
}

describe("analytics", () => {
  let server: TestServer;
  let ingestion: Client<typeof IngestionService>;
  let session: ReturnType<typeof grpcSession>;
  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    ingestion = createClient(IngestionService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("are those of the seed: totals, types with percentages, users, sessions, over time", async () => {
    using mine = await client(server, "seed");
    const now = Date.now();
    const event = (eventType: string, userId: string, sessionId: string, agoMs: number) => ({
      eventType,
      userId,
      sessionId,
      timestamp: timestampFromMs(now - agoMs),
    });
    await mine.ingestion.ingestEvents({
      events: [
        event("page_view", "user_abc123", "s1", 5 * minute),
        event("page_view", "user_abc123", "s1", 4 * minute),
        event("click", "user_abc123", "s1", 3 * minute),
        event("purchase", "user_b", "s2", 2 * minute),
        event("page_view", "user_b", "s3", 20 * minute),
        event("page_view", "", "", 30 * minute),
        event("page_view", "user_c", "s4", 2 * hour),
      ],
    });
    await untilProcessed(mine.ingestion);
    const answer = await mine.ingestion.getAnalytics({ timeRange: "1h" });
    assert.equal(answer.totalEvents, 6n);
    assert.deepEqual(
      answer.eventsByType.map(({ eventType, count, percentage }) => [eventType, count, percentage]),
      [
        ["page_view", 4n, 66.7],
        ["click", 1n, 16.7],
        ["purchase", 1n, 16.7],
      ],
    );
    assert.deepEqual(
      answer.topUsers.map(({ userId, eventCount, eventTypes, lastEventAt }) => [
        userId,
        eventCount,
        eventTypes,
        lastEventAt && timestampMs(lastEventAt),
      ]),
      [
        ["user_abc123", 3n, ["page_view", "click"], now - 3 * minute],
        ["user_b", 2n, ["page_view", "purchase"], now - 2 * minute],
      ],
    );
    assert.equal(answer.uniqueUsers, 2n);
    assert.equal(answer.uniqueSessions, 3n);
    assert.equal(answer.avgEventsPerUser, 2.5);
    assert.equal(
      answer.eventsOverTime.reduce((sum, { count }) => sum + count, 0n),
      6n,
    );
    const { start, end } = answer.timeRange ?? {};
    assert.equal(end && start && timestampMs(end) - timestampMs(start), hour);
    const short = await mine.ingestion.getAnalytics({ timeRange: "15m" });
    assert.equal(short.totalEvents, 4n);
    assert.equal((await mine.ingestion.getAnalytics({ timeRange: "24h" })).totalEvents, 7n);
    const filtered = await mine.ingestion.getAnalytics({
      timeRange: "7d",
      eventType: "page_view",
      userId: "user_",
    });
    assert.equal(filtered.totalEvents, 4n);
    assert.equal((await mine.ingestion.getAnalytics({ userId: "nobody" })).totalEvents, 0n);
    assert.equal((await mine.ingestion.getAnalytics({ eventType: "nothing" })).totalEvents, 0n);
  });

  test("an answer is kept for ten seconds", async () => {
    using mine = await client(server, "kept");
    const first = await mine.ingestion.getAnalytics({ timeRange: "15m" });
    await mine.ingestion.ingestEvent({ event: { eventType: "a" } });
    await untilProcessed(mine.ingestion);
    assert.deepEqual(await mine.ingestion.getAnalytics({ timeRange: "15m" }), first);
    assert.equal((await mine.ingestion.getAnalytics({ timeRange: "24h" })).totalEvents, 1n);
  });

  test("ranges that make no sense are refused", async () => {
    const [start, end] = [timestampFromMs(Date.now() - day), timestampFromMs(Date.now())];
    for (const [request, field] of [
      [{ timeRange: "1h", start }, "start"],
      [{ timeRange: "1h", end }, "end"],
      [{ end }, "start"],
      [{ start: end, end: start }, "end"],
      [{ start: timestampFromMs(Date.now() - 401 * day), end }, "end"],
    ] as const) {
      const { fields } = await assertFails(
        ingestion.getAnalytics(request),
        Code.InvalidArgument,
        "INVALID_FIELD",
      );
      assert.deepEqual(fields, [field]);
    }
  });

  test("equal a naive recount, whatever the range and the filters, with and without longer periods", async () => {
    const { superuser } = server.database;
    const draw = fc.record({ seed: fc.integer(), spanDays: fc.constantFrom(0.05, 1, 9), late: fc.boolean() });
    let run = 0;
    const property = fc.asyncProperty(draw, async ({ seed, spanDays, late }) => {
      using mine = await client(server, `recount-${++run}`);
      const random = seeded(seed);
      const now = Date.now();
      const send = async (count: number) => {
        await mine.ingestion.ingestEvents({ events: drawn(count, spanDays * day, now, random) });
      };
      await Promise.all([send(300), send(200)]);
      await untilProcessed(mine.ingestion);
      await buildAll(mine.tenantId);
      if (late) {
        await send(100);
        await untilProcessed(mine.ingestion);
        if (random() < 0.5) await buildAll(mine.tenantId);
      }
      const endMs = floor(now) + minute;
      for (const lengthMs of [15 * minute, hour, day, 7 * day, floor(random() * 10 * day) + minute]) {
        const back = random() < 0.5 ? 0 : floor(random() * day);
        const query = { startMs: endMs - back - lengthMs, endMs: endMs - back };
        for (const filter of [
          {},
          { eventType: "click" },
          { userId: "user_1" },
          { eventType: "page_view", userId: "3" },
        ]) {
          await assertRecounted(mine.ingestion, superuser, mine.tenantId, { ...query, ...filter });
        }
      }
    });
    await fc.assert(property, { numRuns: 6, endOnFailure: true });
  });

  /** Makes all periods of the tenant that are over, without waiting for late events. */
  async function buildAll(tenantId: string): Promise<void> {
    await server.database.superuser.query(
      `update event_rollup_builds set due_at = now() where tenant_id = $1
       and bucket + (array['1m', '15m', '1h', '4h', '1d']::interval[])[level + 1] <= now()`,
      [tenantId],
    );
    while ((await buildDue(server.context.db)) > 0);
    const { rows } = await server.database.superuser.query(
      "select count(distinct level)::int as levels from event_rollups where tenant_id = $1",
      [tenantId],
    );
    assert.ok(rows[0].levels > 1, "no longer periods were made");
  }
});
