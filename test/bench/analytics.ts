/**
 * Analytics over 7 days at few and at many events: node test/bench/analytics.ts [--events 1000000,10000000] [--calls n]
 *
 * The real server on its own PostgreSQL. The events are written by SQL, as batches; the server's own worker folds them. Then the
 * same questions are asked over gRPC, one after the other, each with an end of its own, so that none is answered from the
 * cache of answers.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import type { Client as Connection } from "pg";
import { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { connectToDatabase } from "../faults/database.ts";
import { postmasterOf } from "../faults/processes.ts";
import { grpcSession } from "../helpers/server.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { cpuBetween, readCpu } from "./cpu.ts";
import { type BenchResult, printResult, show, writeReport } from "./report.ts";

const minute = 60_000;
const day = 1_440 * minute;
const week = 7 * day;
const users = 10_000;
const batchRows = 2_000;
const chunkRows = 200_000;

interface Options {
  /** Numbers of events, each in a database of its own. */
  readonly events: readonly number[];
  /** Calls of each question. */
  readonly calls: number;
}

interface Measured {
  readonly events: number;
  readonly foldedPerSecond: number;
  readonly serverMicros: number;
  readonly postgresMicros: number;
  readonly p50: Record<string, number>;
  readonly p95: Record<string, number>;
  readonly first: number;
}

export async function analyticsBench({ events, calls }: Options): Promise<BenchResult> {
  const measured: Measured[] = [];
  for (const count of events) measured.push(await measure(count, calls));
  const [few, many] = [measured[0] as Measured, measured.at(-1) as Measured];
  return {
    name: "analytics",
    title: `Analytics over 7 days, ${show(users)} users, 4 sessions a day each, 5 types, ${calls} calls of each question`,
    columns: ["events", "question", "p50 ms", "p95 ms", "of the few"],
    rows: measured.flatMap(({ events: count, p50, p95 }) =>
      Object.keys(p95).map((title) => [
        show(count),
        title,
        show(p50[title] as number),
        show(p95[title] as number),
        `${show((p95[title] as number) / (few.p95[title] as number))}×`,
      ]),
    ),
    notes: measured.map(
      (of) =>
        `${show(of.events)} events: folded at ${show(of.foldedPerSecond)}/s, ${show(of.serverMicros)} µs of the server ` +
        `and ${show(of.postgresMicros)} µs of PostgreSQL each; the first question of all took ${show(of.first)} ms`,
    ),
    figures: {
      users,
      calls,
      measured,
      ratio: Object.fromEntries(
        Object.entries(many.p95).map(([title, ms]) => [title, ms / (few.p95[title] as number)]),
      ),
    },
  };
}

async function measure(events: number, calls: number): Promise<Measured> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    // The events are there before the worker is, so that folding is measured alone.
    const api = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir, PULSEWIRE_ROLE: "api" });
    const endMs = Math.floor(Date.now() / minute) * minute;
    const stopped = await (async () => {
      await using database = await connectToDatabase(dataDir);
      await write(database, events, endMs);
    })().finally(() => api.stop());
    void stopped;
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    await using database = await connectToDatabase(dataDir);
    using session = grpcSession(server.url, { "x-api-key": readDemoKey(dataDir) });
    const ingestion = createClient(IngestionService, session.transport);
    const postmaster = postmasterOf(dataDir);
    const [before, started] = [readCpu(server.pid, postmaster), performance.now()];
    await until(async () => (await ingestion.getIngestStats({})).pending === 0n);
    const seconds = (performance.now() - started) / 1_000;
    const cpu = cpuBetween(before, readCpu(server.pid, postmaster));
    await buildLongerPeriods(database);

    const first = await ask(ingestion, endMs, {}, 0);
    const p50: Record<string, number> = {};
    const p95: Record<string, number> = {};
    for (const [title, filter] of Object.entries(questions)) {
      for (let call = 0; call < 5; call++) await ask(ingestion, endMs, filter, call);
      const times: number[] = [];
      for (let call = 0; call < calls; call++) times.push(await ask(ingestion, endMs, filter, 5 + call));
      times.sort((a, b) => a - b);
      p50[title] = times[Math.floor(0.5 * (times.length - 1))] as number;
      p95[title] = times[Math.ceil(0.95 * (times.length - 1))] as number;
    }
    await server.stop();
    return {
      events,
      foldedPerSecond: events / seconds,
      serverMicros: (cpu.server * 1e6) / events,
      postgresMicros: (cpu.postgres * 1e6) / events,
      p50,
      p95,
      first,
    };
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

const questions: Record<string, { eventType?: string; userId?: string }> = {
  all: {},
  "one type": { eventType: "click" },
  "part of a user id": { userId: "user-123" },
};

/** Milliseconds of one answer about 7 days that end some minutes earlier. */
async function ask(
  ingestion: Client<typeof IngestionService>,
  endMs: number,
  filter: { eventType?: string; userId?: string },
  minutesBack: number,
): Promise<number> {
  const end = endMs - minutesBack * minute;
  const started = performance.now();
  await ingestion.getAnalytics({ start: timestampFromMs(end - week), end: timestampFromMs(end), ...filter });
  return performance.now() - started;
}

/** A bit more than 7 days of events in the order of time, as flushes would have written them. */
async function write(database: Connection, events: number, endMs: number): Promise<void> {
  const { rows } = await database.query<{ id: string }>("select id from tenants where slug = 'demo'");
  const tenantId = rows[0]?.id;
  const fromMs = endMs - week - 3 * 60 * minute;
  for (let done = 0; done < events; done += chunkRows) {
    const rowsNow = Math.min(chunkRows, events - done);
    await database.query("begin");
    await database.query(
      `insert into events (tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, encoded, metrics)
       select $1, (substr(at, 1, 8) || '-' || substr(at, 9, 4) || '-7' || lpad(to_hex((n / 16) % 4096), 3, '0') || '-8'
           || lpad(to_hex(n % 4096), 3, '0') || '-' || lpad(to_hex(n), 12, '0'))::uuid,
         'e' || n, (array['page_view', 'click', 'purchase', 'search', 'log_in'])[1 + floor(random() * 5)::int],
         'user-' || who, 'session-' || who || '-' || floor(ms / 21600000), 2, 1, to_timestamp(ms / 1000.0), '',
         '{"duration_ms":12.5}'
       from (
         select n, ms, who, lpad(to_hex(ms), 12, '0') as at
         from (
           select n, $2::bigint + (n * $3::float8)::bigint as ms, floor(random() * ${users})::int as who
           from generate_series($4::bigint, $5::bigint - 1) as n
         ) as drawn
       ) as timed`,
      [tenantId, fromMs, (endMs - fromMs) / events, done, done + rowsNow],
    );
    // Many batches of one transaction: told apart by their ids, as those of the migration are.
    await database.query(
      `insert into event_batches (tenant_id, first_id, last_id, events)
       select $1, (array_agg(id order by id))[1], (array_agg(id order by id desc))[1], count(*)
       from (select id, (row_number() over (order by id) - 1) / ${batchRows} as part
             from events where tenant_id = $1 and batch = pg_current_xact_id()) as numbered
       group by part`,
      [tenantId],
    );
    await database.query("commit");
  }
  await database.query("analyze events");
  await database.query("checkpoint");
}

/** Lets the server make all periods that are over now, and waits for them. */
async function buildLongerPeriods(database: Connection): Promise<void> {
  await database.query(
    `update event_rollup_builds set due_at = now()
     where bucket + (array['1m', '15m', '1h', '4h', '1d']::interval[])[level + 1] <= now()`,
  );
  await until(async () => {
    const { rows } = await database.query<{ due: number }>(
      "select count(*)::int as due from event_rollup_builds where due_at <= now()",
    );
    return rows[0]?.due === 0;
  });
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(100);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      events: { type: "string", default: "1000000,10000000" },
      calls: { type: "string", default: "200" },
    },
  });
  const result = await analyticsBench({
    events: values.events.split(",").map(Number),
    calls: Number(values.calls),
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
