import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { ProcessingStatus } from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { claimBatches, noTenant } from "../server/src/ingestion/processing/claim.ts";
import { processClaim } from "../server/src/ingestion/processing/process.ts";
import { sweepEvents } from "../server/src/ingestion/retention.ts";
import { buildDue } from "../server/src/ingestion/rollups/build.ts";
import { NameNumbers } from "../server/src/ingestion/rollups/names.ts";
import { assertRecounted, untilProcessed } from "./helpers/recount.ts";
import { grpcSession, serve, settingsFor, startTestServer, type TestServer } from "./helpers/server.ts";
import { startServerProcess } from "./helpers/server-process.ts";

type Ingestion = Client<typeof IngestionService>;

const minute = 60_000;
const day = 1_440 * minute;

/** Ingestion of a tenant of its own. */
async function newTenant(server: TestServer, slug: string) {
  const { apiKey, tenantId } = await server.register(slug);
  const session = grpcSession(server.url, { "x-api-key": apiKey });
  const ingestion = createClient(IngestionService, session.transport);
  return { tenantId, apiKey, ingestion, [Symbol.dispose]: () => session[Symbol.dispose]() };
}

const allTime = () => {
  const endMs = Math.floor(Date.now() / minute) * minute + 2 * minute;
  return { startMs: endMs - 30 * day, endMs };
};

/** Some statuses that are waited for. */
async function untilStatus(ingestion: Ingestion, eventId: string, wanted: ProcessingStatus): Promise<void> {
  for (let wait = 0; ; wait++) {
    const status = (await ingestion.getEvent({ eventId })).event?.processingStatus;
    if (status === wanted) return;
    assert.ok(wait < 400, `${eventId} is ${status}, not ${wanted}`);
    await sleep(50);
  }
}

/** Folding fails for events of this type, as it would if they could not be processed. */
async function poison(server: TestServer, type: string) {
  const { superuser } = server.database;
  const constraint = `poison_${type}`;
  await superuser.query(`alter table event_names add constraint ${constraint} check (name <> '${type}')`);
  return () => superuser.query(`alter table event_names drop constraint ${constraint}`);
}

describe("processing without a worker of its own", () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer({ PULSEWIRE_ROLE: "api" });
    // Rolls back the transactions of workers, after all they have done, while there is a row in `rollbacks`.
    await server.database.superuser.query(`
      create table public.rollbacks (n int);
      grant select on public.rollbacks to public;
      create function public.roll_back() returns trigger language plpgsql as $$
      begin
        if exists (select from public.rollbacks) then raise exception 'rolled back by the test'; end if;
        return new;
      end $$;
      create trigger roll_back before update on event_batches for each row
        when (new.processed_at is not null) execute function public.roll_back()`);
  });
  after(() => server.stop());

  const workers = ["a", "b", "c"].map((worker) => ({ worker, names: new NameNumbers(), maxAttempts: 1_000 }));
  const command = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("ingest" as const),
        events: fc.array(
          fc.record({
            type: fc.constantFrom("a", "b"),
            user: fc.integer({ min: 0, max: 4 }),
            session: fc.integer({ min: 0, max: 6 }),
            agoMs: fc.oneof(
              fc.integer({ min: 0, max: 40 * minute }),
              fc.integer({ min: 0, max: 2_880 * minute }),
            ),
            metric: fc.option(fc.integer({ min: -5, max: 5 })),
          }),
          { minLength: 1, maxLength: 12 },
        ),
      }),
    },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("process" as const), by: fc.nat({ max: 2 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("crash" as const), by: fc.nat({ max: 2 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("roll back" as const), by: fc.nat({ max: 2 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("delete" as const), user: fc.integer({ min: 1, max: 4 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("build" as const), most: fc.constantFrom(undefined, 2) }),
    },
  );

  test("rollups equal a recount after any interleaving of ingest, workers, crashes, rollbacks and deletions", async () => {
    const { superuser } = server.database;
    const { db } = server.context;
    let run = 0;
    const longer = { all: 0, left: 0 };
    const countLonger = async (tenantId: string): Promise<number> => {
      const { rows } = await superuser.query(
        "select count(*)::int as longer from event_rollups where tenant_id = $1 and level > 0",
        [tenantId],
      );
      return rows[0].longer;
    };
    const property = fc.asyncProperty(
      fc.array(command, { minLength: 5, maxLength: 25 }),
      fc.integer({ min: 0, max: 2_880 * minute }),
      async (commands, lateMs) => {
        using tenant = await newTenant(server, `any-order-${++run}`);
        const { tenantId, ingestion } = tenant;
        const free = () =>
          superuser.query(
            "update event_batches set claimed_until = now() - interval '1 s', next_attempt_at = now() where processed_at is null",
          );
        const work = async (by: number) => {
          const processing = { db, ...(workers[by] as (typeof workers)[number]) };
          const claim = await claimBatches(db, processing.worker, noTenant);
          if (claim) await processClaim(processing, claim);
          return claim !== undefined;
        };
        const build = async (most?: number) => {
          await superuser.query(
            `update event_rollup_builds set due_at = now()
             where bucket + (array['1m', '15m', '1h', '4h', '1d']::interval[])[level + 1] <= now()`,
          );
          while ((await buildDue(db, most)) > 0);
        };
        let accepted = 0;
        const running: Promise<unknown>[] = [];
        for (const each of commands) {
          switch (each.kind) {
            case "ingest": {
              const events = each.events.map(({ type, user, session, agoMs, metric }) => ({
                eventType: type,
                userId: user ? `u${user}` : "",
                sessionId: session ? `s${session}` : "",
                timestamp: timestampFromMs(Date.now() - agoMs),
                metrics: metric === null ? {} : { m: metric },
              }));
              accepted += events.length;
              running.push(ingestion.ingestEvents({ events }));
              break;
            }
            case "process":
              running.push(work(each.by));
              break;
            case "crash":
              await claimBatches(db, workers[each.by]?.worker ?? "", noTenant);
              await free();
              break;
            case "roll back":
              await Promise.all(running.splice(0));
              await superuser.query("insert into public.rollbacks values (1)");
              await work(each.by);
              await superuser.query("delete from public.rollbacks");
              await free();
              break;
            case "delete":
              running.push(ingestion.deleteUserEvents({ userId: `u${each.user}` }));
              break;
            case "build":
              running.push(build(each.most));
              break;
          }
        }
        await Promise.all(running);
        await free();
        while ((await Promise.all([work(0), work(1)])).some(Boolean));
        const { startMs, endMs } = allTime();
        const check = async (filters: readonly { eventType?: string; userId?: string }[], back: number) => {
          // The second cuts through periods of all lengths.
          for (const range of [
            { startMs: startMs - back, endMs },
            { startMs: endMs - 1_700 * minute - back, endMs: endMs - 7 * minute },
          ]) {
            for (const filter of filters)
              await assertRecounted(ingestion, superuser, tenantId, { ...range, ...filter });
          }
        };
        const filters = [{}, { eventType: "a" }, { userId: "u" }, { userId: "u2", eventType: "b" }];
        await check(filters, 0);
        // With all longer periods, and with those that a late event and a deletion leave of them; no answer is kept of these ranges.
        await build();
        longer.all += await countLonger(tenantId);
        await check(filters, minute);
        await ingestion.ingestEvents({
          events: [{ eventType: "a", userId: "u1", timestamp: timestampFromMs(Date.now() - lateMs) }],
        });
        accepted++;
        while (await work(0));
        await ingestion.deleteUserEvents({ userId: "u2" });
        longer.left += await countLonger(tenantId);
        await check(filters, 2 * minute);
        const stats = await ingestion.getIngestStats({});
        assert.equal(
          stats.totalIngested,
          BigInt(accepted),
          "total_ingested counts what was deleted since, too",
        );
        assert.equal(stats.pending, 0n);
      },
    );
    await fc.assert(property, { numRuns: 10, endOnFailure: true });
    assert.ok(
      longer.left > 0 && longer.all > longer.left,
      `longer periods were read: ${JSON.stringify(longer)}`,
    );
  });

  test("a period with too many users and sessions is left out, and reads take the shorter ones", async () => {
    const { superuser } = server.database;
    const { db } = server.context;
    using tenant = await newTenant(server, "crowded");
    const { tenantId, ingestion } = tenant;
    const yesterday = Math.floor(Date.now() / 86_400_000) * 86_400_000 - 86_400_000;
    await ingestion.ingestEvents({
      events: [0, 1, 2, 20, 40].map((minute) => ({
        eventType: "a",
        userId: `u${minute}`,
        timestamp: timestampFromMs(yesterday + minute * 60_000),
      })),
    });
    const processing = { db, ...(workers[0] as (typeof workers)[number]) };
    const claim = await claimBatches(db, processing.worker, noTenant);
    assert.ok(claim, "there is a batch to process");
    await processClaim(processing, claim);
    const build = async (most?: number) => {
      await superuser.query("update event_rollup_builds set due_at = now() where tenant_id = $1", [tenantId]);
      while ((await buildDue(db, most)) > 0);
      const { rows } = await superuser.query(
        "select level, count(*)::int as periods from event_rollups where tenant_id = $1 group by level order by level",
        [tenantId],
      );
      await assertRecounted(ingestion, superuser, tenantId, {
        startMs: yesterday,
        endMs: yesterday + 86_400_000,
      });
      return rows.map(({ level, periods }) => [level, periods]);
    };
    // The quarter of an hour with three users, and all around it, are left out.
    assert.deepEqual(await build(2), [
      [0, 5],
      [1, 2],
    ]);
  });

  test("a user's events go for good, once, with their part in rollups, names and dead letters", async () => {
    using tenant = await newTenant(server, "deletion");
    const { ingestion, tenantId } = tenant;
    const { superuser } = server.database;
    const { db } = server.context;
    const events = Array.from({ length: 60 }, (_, index) => ({
      eventId: `d${index}`,
      eventType: index % 3 ? "a" : "b",
      userId: index % 2 ? "gone" : "stays",
      sessionId: `s${index % 7}`,
      timestamp: timestampFromMs(Date.now() - index * minute),
      metrics: { m: index },
    }));
    await ingestion.ingestEvents({ events });
    const claim = await claimBatches(db, "w", noTenant);
    assert.ok(claim);
    await processClaim({ db, worker: "w", names: new NameNumbers(), maxAttempts: 5 }, claim);
    await superuser.query(
      `insert into event_dead_letters (tenant_id, id, event_row, reason, attempts)
       select tenant_id, gen_random_uuid(), id, 'test', 1 from events where tenant_id = $1 and event_id = 'd1'`,
      [tenantId],
    );
    const before = await ingestion.getIngestStats({});
    assert.equal((await ingestion.deleteUserEvents({ userId: "gone", dryRun: true })).deleted, 30n);
    assert.equal((await ingestion.deleteUserEvents({ userId: "gone" })).deleted, 30n);
    assert.equal((await ingestion.deleteUserEvents({ userId: "gone" })).deleted, 0n);
    const answer = await assertRecounted(ingestion, superuser, tenantId, allTime());
    assert.equal(answer.totalEvents, 30n);
    const { rows } = await superuser.query(
      `select (select count(*)::int from events where tenant_id = $1 and user_id = 'gone') as events,
         (select count(*)::int from event_names where tenant_id = $1 and name = 'gone') as names,
         (select count(*)::int from event_dead_letters where tenant_id = $1) as letters`,
      [tenantId],
    );
    assert.deepEqual(rows[0], { events: 0, names: 0, letters: 0 });
    assert.equal((await ingestion.getIngestStats({})).totalIngested, before.totalIngested);
    const again = await ingestion.ingestEvents({ events: events.slice(1, 2) });
    assert.equal(again.counts?.duplicate, 1, "a gateway that sends it again does not bring it back");
  });

  test("webhooks are told of every event once, where one asks for that", async () => {
    using tenant = await newTenant(server, "told");
    const { ingestion, tenantId } = tenant;
    const { superuser } = server.database;
    const { db } = server.context;
    const told = async () => {
      const claim = await claimBatches(db, "w", noTenant);
      assert.ok(claim);
      await processClaim({ db, worker: "w", names: new NameNumbers(), maxAttempts: 5 }, claim);
      const { rows } = await superuser.query(
        "select type, data ->> 'event_id' as event from webhook_events where tenant_id = $1 order by 2",
        [tenantId],
      );
      return rows.map(({ type, event }) => `${type} ${event}`);
    };
    await ingestion.ingestEvents({ events: [{ eventId: "t0", eventType: "a" }] });
    assert.deepEqual(await told(), []);
    await superuser.query(
      `insert into webhooks (tenant_id, id, url, description, event_types, filter, group_wait_ms, enabled, secret)
       values ($1, gen_random_uuid(), 'https://receiver.example', '', '{event.processed}', '{}', 0, true, 'x')`,
      [tenantId],
    );
    await ingestion.ingestEvents({ events: ["t1", "t2"].map((eventId) => ({ eventId, eventType: "a" })) });
    assert.deepEqual(await told(), ["event.processed t1", "event.processed t2"]);
  });

  test("old events are dropped by partition, rollups and the log of batches by their own times", async () => {
    using tenant = await newTenant(server, "retention");
    const { ingestion, tenantId } = tenant;
    const { superuser } = server.database;
    const { db, config } = server.context;
    await ingestion.ingestEvents({ events: [{ eventId: "r1", eventType: "a", userId: "u" }] });
    const claim = await claimBatches(db, "w", noTenant);
    assert.ok(claim);
    await processClaim({ db, worker: "w", names: new NameNumbers(), maxAttempts: 5 }, claim);
    const count = async () => {
      const { rows } = await superuser.query(
        `select (select count(*)::int from events where tenant_id = $1) as events,
           (select count(*)::int from event_rollups where tenant_id = $1) as rollups,
           (select count(*)::int from event_names where tenant_id = $1) as names,
           (select count(*)::int from event_batches where tenant_id = $1) as batches`,
        [tenantId],
      );
      return rows[0];
    };
    const now = Date.now();
    const partitions = async () =>
      (
        await superuser.query(
          "select count(*)::int as n from pg_inherits where inhparent = 'events'::regclass",
        )
      ).rows[0].n;
    const before = await partitions();
    await superuser.query("select ensure_partitions('events', current_date - 100, current_date - 92)");
    await sweepEvents(db, config.ingestion, now);
    assert.deepEqual(await count(), { events: 1, rollups: 1, names: 2, batches: 1 });
    assert.equal(await partitions(), before, "partitions of 92 days ago and more are gone");
    await sweepEvents(db, config.ingestion, now + 8 * day);
    assert.deepEqual(await count(), { events: 1, rollups: 1, names: 2, batches: 0 });
    assert.equal(
      (await ingestion.getEvent({ eventId: "r1" })).event?.processingStatus,
      ProcessingStatus.PROCESSED,
    );
    await sweepEvents(db, { ...config.ingestion, eventRetentionDays: 0 }, now + 405 * day);
    assert.deepEqual(await count(), { events: 1, rollups: 0, names: 0, batches: 0 });
  });

  test("rollups that are dropped up to the middle of a day leave what came after, exact", async () => {
    using tenant = await newTenant(server, "half-a-day");
    const { ingestion, tenantId } = tenant;
    const { superuser } = server.database;
    const { db, config } = server.context;
    const yesterday = Math.floor(Date.now() / day) * day - day;
    await ingestion.ingestEvents({
      events: [10, 320, 329, 330, 400, 820].map((at) => ({
        eventType: "a",
        userId: `u${at % 3}`,
        sessionId: `s${at}`,
        timestamp: timestampFromMs(yesterday + at * minute),
      })),
    });
    const processing = { db, ...(workers[0] as (typeof workers)[number]) };
    const claim = await claimBatches(db, processing.worker, noTenant);
    assert.ok(claim);
    await processClaim(processing, claim);
    await superuser.query("update event_rollup_builds set due_at = now() where tenant_id = $1", [tenantId]);
    while ((await buildDue(db)) > 0);
    const untilMs = yesterday + 329 * minute;
    await sweepEvents(
      db,
      { ...config.ingestion, eventRetentionDays: 0, rollupRetentionDays: 100 },
      untilMs + 100 * day,
    );
    const { totalEvents } = await ingestion.getAnalytics({
      start: timestampFromMs(yesterday),
      end: timestampFromMs(yesterday + day),
    });
    assert.equal(totalEvents, 4n);
    for (const userId of ["", "u1"])
      await assertRecounted(ingestion, superuser, tenantId, {
        startMs: untilMs,
        endMs: yesterday + day,
        userId,
      });
  });
});

describe("workers", () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer({ PULSEWIRE_EVENT_ATTEMPTS: "1" });
  });
  after(() => server.stop());

  test("what cannot be processed is given up alone, with its reason, and replayed", async () => {
    using tenant = await newTenant(server, "dead-letters");
    const { ingestion, tenantId } = tenant;
    const heal = await poison(server, "bad");
    const events = Array.from({ length: 20 }, (_, index) => ({
      eventId: `p${index}`,
      eventType: index === 7 || index === 13 ? "bad" : "good",
    }));
    await ingestion.ingestEvents({ events });
    await untilStatus(ingestion, "p7", ProcessingStatus.DEAD);
    await untilProcessed(ingestion);
    assert.equal(
      (await ingestion.getEvent({ eventId: "p8" })).event?.processingStatus,
      ProcessingStatus.PROCESSED,
    );
    const stats = await ingestion.getIngestStats({});
    assert.deepEqual([stats.deadLetters, stats.totalIngested, stats.pending], [2n, 20n, 0n]);
    await assertRecounted(ingestion, server.database.superuser, tenantId, allTime());

    const first = await ingestion.listDeadLetters({ pageSize: 1 });
    assert.equal(first.deadLetters.length, 1);
    const next = await ingestion.listDeadLetters({ pageSize: 1, pageToken: first.nextPageToken });
    assert.equal(next.nextPageToken, "");
    const letters = [...first.deadLetters, ...next.deadLetters];
    assert.deepEqual(letters.map(({ event }) => event?.event?.eventId).sort(), ["p13", "p7"]);
    assert.ok(letters.every(({ reason, attempts }) => reason.includes("poison_bad") && attempts === 2));
    const byFilter = async (filter: object) =>
      (await ingestion.listDeadLetters({ filter })).deadLetters.length;
    assert.equal(await byFilter({ eventType: "good" }), 0);
    assert.equal(await byFilter({ eventType: "bad", reasonContains: "poison" }), 2);
    assert.equal(await byFilter({ reasonContains: "something else" }), 0);
    assert.equal(await byFilter({ failedFrom: timestampFromMs(Date.now() + minute) }), 0);
    assert.equal(await byFilter({ failedUntil: timestampFromMs(Date.now() + minute) }), 2);
    assert.equal(await byFilter({ deadLetterIds: [letters[0]?.id ?? ""] }), 1);

    // While the cause remains they come back; when it is gone they are processed.
    assert.equal((await ingestion.replayDeadLetters({ dryRun: true })).replayed, 2n);
    assert.equal((await ingestion.replayDeadLetters({})).replayed, 2n);
    await untilProcessed(ingestion);
    await untilStatus(ingestion, "p7", ProcessingStatus.DEAD);
    await heal();
    const one = (await ingestion.listDeadLetters({})).deadLetters[0];
    assert.equal(
      (await ingestion.replayDeadLetters({ filter: { deadLetterIds: [one?.id ?? ""] } })).replayed,
      1n,
    );
    await untilStatus(ingestion, one?.event?.event?.eventId ?? "", ProcessingStatus.PROCESSED);
    assert.equal((await ingestion.replayDeadLetters({})).replayed, 1n);
    await untilProcessed(ingestion);
    const after = await ingestion.getIngestStats({});
    assert.deepEqual([after.deadLetters, after.totalIngested], [0n, 20n]);
    const answer = await assertRecounted(ingestion, server.database.superuser, tenantId, {
      ...allTime(),
      endMs: allTime().endMs + minute,
    });
    assert.equal(answer.totalEvents, 20n);
  });

  test("statistics tell rate, total, what is pending and for how long", async () => {
    using tenant = await newTenant(server, "stats");
    const { ingestion } = tenant;
    const heal = await poison(server, "late");
    await ingestion.ingestEvents({ events: Array.from({ length: 90 }, () => ({ eventType: "on-time" })) });
    await untilProcessed(ingestion);
    await ingestion.ingestEvents({ events: Array.from({ length: 30 }, () => ({ eventType: "late" })) });
    const stats = await ingestion.getIngestStats({});
    assert.equal(stats.totalIngested, 120n);
    assert.equal(stats.ingestionRate, 2);
    assert.ok(stats.timestamp && Math.abs(timestampMs(stats.timestamp) - Date.now()) < 10_000);
    assert.ok(
      stats.pending === 30n
        ? stats.lag && (stats.lag.seconds > 0n || stats.lag.nanos > 0)
        : stats.pending === 0n,
    );
    await heal();
    await untilProcessed(ingestion);
  });
});

test("what a killed worker held is taken over within seconds, and counted once", async () => {
  await using server = await startTestServer({ PULSEWIRE_ROLE: "api" });
  using tenant = await newTenant(server, "takeover");
  const { ingestion, tenantId } = tenant;
  const settings = { ...settingsFor(server.database), PULSEWIRE_ROLE: "worker" };
  const first = await startServerProcess(settings);
  try {
    let sending = true;
    let sent = 0;
    const load = (async () => {
      while (sending) {
        await ingestion.ingestEvents({
          events: Array.from({ length: 200 }, (_, index) => ({
            eventType: "a",
            userId: `u${index % 11}`,
            sessionId: `s${(sent + index) % 97}`,
          })),
        });
        sent += 200;
      }
    })();
    await sleep(700);
    await first.kill();
    // It may have claimed and held nothing at this moment: then somebody else is made to.
    await claimBatches(server.context.db, "a worker that has just died", noTenant);
    await using second = await serve(server.database, { PULSEWIRE_ROLE: "worker" });
    const started = Date.now();
    await sleep(1_000);
    sending = false;
    await load;
    await untilProcessed(ingestion);
    assert.ok(Date.now() - started < 20_000, "it took too long");
    assert.ok(second.url);
    await assertRecounted(ingestion, server.database.superuser, tenantId, allTime());
    assert.equal((await ingestion.getIngestStats({})).totalIngested, BigInt(sent));
  } finally {
    await first.kill();
  }
});
