import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { envToConfig } from "../server/src/config/config.ts";
import { withTenant } from "../server/src/db/tenant.ts";
import { FunctionsService } from "../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { countUsage } from "../server/src/metrics/usage/count.ts";
import { nextDayMs } from "../server/src/metrics/usage/days.ts";
import { assertFails } from "./helpers/errors.ts";
import { bearer, callJson, startPlatform, type TestPlatform, withKey } from "./helpers/platform.ts";
import { grpcSession, type TestTenant } from "./helpers/server.ts";

const today = () => new Date().toISOString().slice(0, 10);

let platform: TestPlatform;
let session: ReturnType<typeof grpcSession>;
let otherSession: ReturnType<typeof grpcSession>;
let metrics: Client<typeof MetricsService>;
let events: Client<typeof IngestionService>;
let eventsElsewhere: Client<typeof IngestionService>;

before(async () => {
  platform = await startPlatform({ PULSEWIRE_PRICES: "events=0.5,samples=0.25,active_stores=1000" });
  session = grpcSession(platform.url);
  otherSession = grpcSession(platform.otherUrl);
  metrics = createClient(MetricsService, session.transport);
  events = createClient(IngestionService, session.transport);
  eventsElsewhere = createClient(IngestionService, otherSession.transport);
});
after(async () => {
  session[Symbol.dispose]();
  otherSession[Symbol.dispose]();
  await platform[Symbol.asyncDispose]();
});

const batch = (size: number) => ({ events: Array.from({ length: size }, () => ({ eventType: "x" })) });

/** A tenant with these limits. */
async function limited(slug: string, limits: Record<string, bigint>): Promise<TestTenant> {
  const tenant = await platform.base.register(slug);
  const { tenantId } = tenant;
  await platform.auth.updateTenant(
    { tenantId, limits, updateMask: { paths: ["limits"] } },
    platform.operator,
  );
  return tenant;
}

/** Asks until the day is as wanted: what is noted in memory is written within a second. */
async function usageUntil(apiKey: string, done: (day: Record<string, unknown>) => boolean) {
  for (const end = Date.now() + 10_000; ; await sleep(100)) {
    const { days, limits } = await metrics.getUsage({}, withKey(apiKey));
    const [day] = days;
    if (day && done(day as unknown as Record<string, unknown>)) return { day, days, limits };
    assert.ok(
      Date.now() < end,
      JSON.stringify(day, (_, v) => (typeof v === "bigint" ? String(v) : v)),
    );
  }
}

describe("what a tenant used", () => {
  test("is counted by the day, each event and sample once, and priced", async () => {
    const { apiKey, tenantId, token } = await platform.base.register("counting");
    const key = withKey(apiKey);
    const { store } = await metrics.createStore({ name: "A" }, key);
    const { store: silent } = await metrics.createStore({ name: "silent" }, key);
    const own = batch(9).events.map((event, index) => ({ ...event, eventId: `e${index}` }));
    await events.ingestEvents({ events: own }, key);
    // Sent again, and half of them at the other server.
    await events.ingestEvents({ events: own }, key);
    await eventsElsewhere.ingestEvents({ events: batch(5).events }, key);
    const samples = ["a", "b", "a"].map((name, index) => ({ name, value: index }));
    await metrics.writeSamples({ storeId: store?.id ?? "", samples }, key);
    const { day, days, limits } = await usageUntil(
      apiKey,
      ({ activeSeries, activeStores }) => activeSeries === 2n && activeStores === 1n,
    );
    assert.equal(days.length, 1);
    assert.deepEqual(
      [day.date, day.events, day.samples, day.costMicros],
      [today(), 14n, 3n, BigInt(Math.floor(14 * 0.5 + 3 * 0.25 + 1_000))],
    );
    const used = new Map(limits.map(({ name, used }) => [name, used]));
    assert.deepEqual(
      ["stores", "series", "users", "api_keys", "events_per_day", "samples_per_day"].map((n) => used.get(n)),
      [2n, 2n, 1n, 1n, 14n, 3n],
    );
    assert.ok(silent);
    // The calls of this tenant up to the last one that is surely written.
    await usageUntil(apiKey, ({ calls }) => (calls as bigint) >= 6n);
    const theirs = await metrics.getUsage({ tenantId }, platform.operator);
    assert.equal(theirs.days[0]?.events, 14n);
    const { tenantId: stranger } = platform.base.tenant;
    await assertFails(metrics.getUsage({ tenantId: stranger }, bearer(token)), Code.NotFound, "NOT_FOUND");
  });

  test("stays right while it is folded, also for other days", async () => {
    const { tenantId, apiKey } = await platform.base.register("folding");
    const { db } = platform.base.context;
    const { superuser } = platform.base.database;
    const each = Array.from({ length: 40 }, (_, index) => index);
    await Promise.all(
      each.map((n) =>
        withTenant(db, tenantId, (trx) => countUsage(trx, tenantId, { events: n, invocations: 1 })),
      ),
    );
    await superuser.query(
      `insert into usage_increments (tenant_id, id, day, events) values ($1, gen_random_uuid(), current_date - 3, 7)`,
      [tenantId],
    );
    const read = async () => {
      const { days } = await metrics.getUsage({}, withKey(apiKey));
      return days.map(({ events, invocations }) => [events, invocations]);
    };
    const unfolded = async () => {
      const { rows } = await superuser.query(
        "select count(*)::int as n from usage_increments where tenant_id = $1 and calls = 0",
        [tenantId],
      );
      return rows[0].n;
    };
    const expected = [
      [780n, 40n],
      [7n, 0n],
    ];
    for (const end = Date.now() + 10_000; ; await sleep(50)) {
      assert.deepEqual(await read(), expected);
      if ((await unfolded()) === 0) break;
      assert.ok(Date.now() < end, "not folded");
    }
    assert.deepEqual(await read(), expected);
    const { days } = await metrics.getUsage({ days: 2 }, withKey(apiKey));
    assert.equal(days.length, 1);
  });
});

describe("limits over time", () => {
  test("of events: exact in one process, with the time until the day ends", async () => {
    const { apiKey } = await limited("daily", { eventsPerDay: 20n });
    const key = withKey(apiKey);
    const settled = await Promise.allSettled(
      Array.from({ length: 9 }, () => events.ingestEvents(batch(3), key)),
    );
    assert.equal(settled.filter(({ status }) => status === "fulfilled").length, 6);
    const [refused] = settled.filter((one) => one.status === "rejected");
    const { metadata } = await assertFails(
      Promise.reject(refused?.reason),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    assert.equal(metadata.limit, "events_per_day");
    await events.ingestEvents(batch(2), key);
    await assertFails(events.ingestEvents(batch(1), key), Code.ResourceExhausted, "TENANT_LIMIT");
    const { limits } = await metrics.getUsage({}, key);
    const limit = limits.find(({ name }) => name === "events_per_day");
    assert.deepEqual([limit?.used, limit?.limit], [20n, 20n]);
    assert.equal(limit?.resetsAt && timestampMs(limit.resetsAt), nextDayMs(Date.now()));
    // Events that are refused or there already take no room.
    const raised = await limited("daily-2", { eventsPerDay: 3n });
    const own = [{ eventType: "x", eventId: "same" }];
    for (let n = 0; n < 3; n++) await events.ingestEvents({ events: own }, withKey(raised.apiKey));
    await events.ingestEvents(batch(2), withKey(raised.apiKey));
  });

  test("of samples, over HTTP: 429, Retry-After, no sample of the call is stored", async () => {
    const { apiKey } = await limited("sampled", { samplesPerDay: 4n });
    const key = withKey(apiKey);
    const { store } = await metrics.createStore({ name: "A" }, key);
    const samples = (n: number) => ({
      storeId: store?.id ?? "",
      samples: Array.from({ length: n }, (_, index) => ({ name: `m${index}`, value: 1 })),
    });
    await metrics.writeSamples(samples(3), key);
    const response = await fetch(`${platform.url}/pulsewire.metrics.v1.MetricsService/WriteSamples`, {
      method: "POST",
      headers: { "content-type": "application/json", ...key.headers },
      body: JSON.stringify(samples(2)),
    });
    assert.equal(response.status, 429);
    const seconds = Number(response.headers.get("retry-after"));
    const untilMidnight = (nextDayMs(Date.now()) - Date.now()) / 1_000;
    assert.ok(Math.abs(seconds - untilMidnight) < 5, `${seconds} of ${untilMidnight}`);
    await metrics.writeSamples(samples(1), key);
    const { body } = await callJson(platform.url, "ListSeries", {}, key, "metrics.v1.MetricsService");
    assert.equal(body.series.length, 3);
  });

  test("of several processes: what one takes in counts at the other within seconds", async () => {
    const { apiKey } = await limited("spread", { eventsPerDay: 100n });
    const key = withKey(apiKey);
    await eventsElsewhere.ingestEvents(batch(1), key);
    await events.ingestEvents(batch(99), key);
    for (const end = Date.now() + 10_000; ; await sleep(50)) {
      const answer = await eventsElsewhere
        .ingestEvents({ events: [{ eventType: "x", eventId: "one" }] }, key)
        .then(
          () => "taken",
          () => "refused",
        );
      if (answer === "refused") break;
      assert.ok(Date.now() < end, "the other process goes on");
    }
  });

  test("the budget of a month ends the taking in of events and samples, and invocations", async () => {
    // 20 events at half a micro-unit each.
    const { apiKey } = await limited("budget", { costBudgetMicros: 10n });
    const key = withKey(apiKey);
    await events.ingestEvents(batch(19), key);
    await events.ingestEvents(batch(1), key);
    const { metadata } = await assertFails(
      events.ingestEvents(batch(1), key),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    assert.equal(metadata.limit, "cost_budget_micros");
    const { limits } = await metrics.getUsage({}, key);
    assert.equal(limits.find(({ name }) => name === "cost_budget_micros")?.used, 10n);
    const { store } = await metrics.createStore({ name: "Shop" }, key);
    const samples = [{ name: "m", value: 1, storeId: store?.id ?? "" }];
    await assertFails(metrics.writeSamples({ samples }, key), Code.ResourceExhausted, "TENANT_LIMIT");
    const functions = createClient(FunctionsService, session.transport);
    await functions.createFunction({ name: "job", image: "job" }, key);
    const refused = await assertFails(
      functions.invokeFunction({ name: "job" }, key),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    assert.deepEqual([refused.metadata, refused.retries], [{ limit: "cost_budget_micros" }, true]);
  });

  test("a limit that is raised counts at once", async () => {
    const { apiKey, tenantId } = await limited("raised", { eventsPerDay: 1n });
    const key = withKey(apiKey);
    await events.ingestEvents(batch(1), key);
    await assertFails(events.ingestEvents(batch(1), key), Code.ResourceExhausted, "TENANT_LIMIT");
    const limits = { eventsPerDay: 5n };
    await platform.auth.updateTenant(
      { tenantId, limits, updateMask: { paths: ["limits"] } },
      platform.operator,
    );
    for (const end = Date.now() + 3_000; ; await sleep(20)) {
      if (
        await events.ingestEvents(batch(4), key).then(
          () => true,
          () => false,
        )
      )
        break;
      assert.ok(Date.now() < end, "still refused");
    }
  });
});

describe("the price list", () => {
  test("is refused with a sentence where it cannot be read", () => {
    for (const text of ["events", "evnts=1", "events=-1", "events=1e3", "events=1,,samples=x"]) {
      assert.throws(() => envToConfig({ PULSEWIRE_PRICES: text }), /PULSEWIRE_PRICES has '.*active_stores/);
    }
    assert.equal(envToConfig({ PULSEWIRE_PRICES: " events=0.25 , calls=3" }).metrics.usage.prices.calls, 3);
  });
});
