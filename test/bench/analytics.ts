/**
 * Analytics over 7 days at few and at many events: node test/bench/analytics.ts [--events 1000000,10000000] [--calls n]
 *   [--users 10000] [--data folder] [--refold]
 *
 * The real server on its own PostgreSQL. The events are written by SQL, as batches; the server's own worker folds them. Then the
 * same questions are asked over gRPC, one after the other, each with an end of its own, so that none is answered from the
 * cache of answers. With --data the databases are kept there for the next run, which folds them again only with --refold.
 */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { connectToDatabase } from "../faults/database.ts";
import { postmasterOf } from "../faults/processes.ts";
import { grpcSession } from "../helpers/server.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { buildLongerPeriods, endOfEvents, forgetRollups, makeData, until, week } from "./analytics-data.ts";
import { cpuBetween, readCpu } from "./cpu.ts";
import { type BenchResult, printResult, show, writeReport } from "./report.ts";

const minute = 60_000;

interface Options {
  /** Numbers of events, each in a database of its own. */
  readonly events: readonly number[];
  /** Calls of each question. */
  readonly calls: number;
  readonly users?: number;
  /** Where databases are kept; by default they are made anew and removed. */
  readonly data?: string | undefined;
  readonly refold?: boolean;
}

/** Of one question. */
interface Answered {
  readonly p50: number;
  readonly p95: number;
  readonly worst: number;
  /** CPU of a call. */
  readonly serverMs: number;
  readonly postgresMs: number;
}

interface Measured {
  readonly events: number;
  /** Nothing where they were folded in an earlier run. */
  readonly folding:
    | { readonly perSecond: number; readonly serverMicros: number; readonly postgresMicros: number }
    | undefined;
  readonly answered: Record<string, Answered>;
  /** Milliseconds of the first question of a process, which has read no rollup yet. */
  readonly first: number;
}

export async function analyticsBench({
  events,
  calls,
  users = 10_000,
  data,
  refold = false,
}: Options): Promise<BenchResult> {
  const measured: Measured[] = [];
  for (const count of events) {
    const dataDir = data
      ? path.join(data, String(count))
      : await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
    try {
      measured.push(await measure(dataDir, count, users, calls, refold));
    } finally {
      if (!data) await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
    }
  }
  const [few, many] = [measured[0] as Measured, measured.at(-1) as Measured];
  const ofTheFew = ({ answered }: Measured, title: string) =>
    (answered[title] as Answered).p95 / (few.answered[title] as Answered).p95;
  return {
    name: "analytics",
    title: `Analytics over 7 days, ${show(users)} users, 4 sessions a day each, 5 types, ${calls} calls of each question`,
    columns: [
      "events",
      "question",
      "p50 ms",
      "p95 ms",
      "worst",
      "of the few",
      "server CPU ms",
      "PostgreSQL CPU ms",
    ],
    rows: measured.flatMap((of) =>
      Object.entries(of.answered).map(([title, { p50, p95, worst, serverMs, postgresMs }]) => [
        show(of.events),
        title,
        show(p50),
        show(p95),
        show(worst),
        `${show(ofTheFew(of, title))}×`,
        show(serverMs),
        show(postgresMs),
      ]),
    ),
    notes: measured.map(
      ({ events: count, folding, first }) =>
        `${show(count)} events: ` +
        (folding
          ? `folded at ${show(folding.perSecond)}/s, ${show(folding.serverMicros)} µs of the server and ${show(folding.postgresMicros)} µs of PostgreSQL each; `
          : "") +
        `the first question of all took ${show(first)} ms`,
    ),
    figures: {
      users,
      calls,
      measured,
      ratio: Object.fromEntries(Object.keys(many.answered).map((title) => [title, ofTheFew(many, title)])),
    },
  };
}

async function measure(
  dataDir: string,
  events: number,
  users: number,
  calls: number,
  refold: boolean,
): Promise<Measured> {
  const isKept = existsSync(path.join(dataDir, "demo.json"));
  await makeData(dataDir, events, users);
  if (refold) {
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir, PULSEWIRE_ROLE: "api" });
    {
      await using database = await connectToDatabase(dataDir);
      await forgetRollups(database);
    }
    await server.stop();
  }
  await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  await using database = await connectToDatabase(dataDir);
  const endMs = await endOfEvents(database);
  using session = grpcSession(server.url, { "x-api-key": readDemoKey(dataDir) });
  const ingestion = createClient(IngestionService, session.transport);
  const postmaster = postmasterOf(dataDir);
  const read = () => readCpu(server.pid, postmaster);
  const [before, started] = [read(), performance.now()];
  await until(async () => (await ingestion.getIngestStats({})).pending === 0n);
  const seconds = (performance.now() - started) / 1_000;
  const cpu = cpuBetween(before, read());
  await buildLongerPeriods(database);

  const first = await ask(ingestion, endMs, {}, 0);
  const answered: Record<string, Answered> = {};
  for (const [title, filter] of Object.entries(questions)) {
    for (let call = 0; call < 5; call++) await ask(ingestion, endMs, filter, call);
    const asking = read();
    const times: number[] = [];
    for (let call = 0; call < calls; call++) times.push(await ask(ingestion, endMs, filter, 5 + call));
    const { server: ofServer, postgres } = cpuBetween(asking, read());
    times.sort((a, b) => a - b);
    answered[title] = {
      p50: times[Math.floor(0.5 * (times.length - 1))] as number,
      p95: times[Math.ceil(0.95 * (times.length - 1))] as number,
      worst: times.at(-1) as number,
      serverMs: (1e3 * ofServer) / calls,
      postgresMs: (1e3 * postgres) / calls,
    };
  }
  await server.stop();
  return {
    events,
    folding:
      isKept && !refold
        ? undefined
        : {
            perSecond: events / seconds,
            serverMicros: (cpu.server * 1e6) / events,
            postgresMicros: (cpu.postgres * 1e6) / events,
          },
    answered,
    first,
  };
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

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      events: { type: "string", default: "1000000,10000000" },
      calls: { type: "string", default: "200" },
      users: { type: "string", default: "10000" },
      data: { type: "string" },
      refold: { type: "boolean", default: false },
    },
  });
  const result = await analyticsBench({
    events: values.events.split(",").map(Number),
    calls: Number(values.calls),
    users: Number(values.users),
    data: values.data,
    refold: values.refold,
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
