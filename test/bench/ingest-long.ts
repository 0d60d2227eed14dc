/**
 * Ingest for long: node test/bench/ingest-long.ts [--seconds n | --events n] [--role r] [--json file]
 *
 * Batches of 500 from 8 callers into the whole server, workers included, for some time or until so many events are stored,
 * with plain COPY before and after: the sustained rate, how far the workers are behind at the end, and memory all along.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { connectToDatabase } from "../faults/database.ts";
import { postmasterOf, residentMb } from "../faults/processes.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { cpuBetween, readCpu } from "./cpu.ts";
import type { LoadCommand } from "./load.ts";
import { startLoadProcess } from "./load-process.ts";
import { printResult, show, writeReport } from "./report.ts";

const size = 500;
const roundSeconds = 15;
const copySeconds = 8;
const longestLagMs = 120_000;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "180" },
    events: { type: "string" },
    role: { type: "string", default: "serve" },
    json: { type: "string" },
  },
});
const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-long-"));
try {
  await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir, PULSEWIRE_ROLE: values.role });
  await using load = startLoadProcess();
  await using database = await connectToDatabase(dataDir);
  const postmaster = postmasterOf(dataDir);
  const { host, user, database: name } = database;
  const copy: LoadCommand = {
    kind: "copy",
    database: { host, user: user as string, database: name as string },
    callers: 2,
    size,
    seconds: copySeconds,
  };
  const copyRate = async () => {
    const { events, seconds } = await load.run(copy);
    await database.query("drop table public.bench_events");
    return events / seconds;
  };
  const pending = async () => {
    const { rows } = await database.query<{ batches: number; age: number }>(
      `select count(*)::int as batches, coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as age
       from event_batches where processed_at is null`,
    );
    return rows[0] ?? { batches: 0, age: 0 };
  };

  const copyBefore = await copyRate();
  const cpu = readCpu(server.pid, postmaster);
  const memory: number[] = [];
  const lags: number[] = [];
  let events = 0;
  let seconds = 0;
  const wanted = values.events ? Number(values.events) : Number.POSITIVE_INFINITY;
  const longest = values.events ? Number.POSITIVE_INFINITY : Number(values.seconds);
  while (events < wanted && seconds < longest) {
    const round = await load.run({
      kind: "batch",
      url: server.url,
      apiKey: readDemoKey(dataDir),
      callers: 8,
      connections: 4,
      size,
      seconds: Math.min(roundSeconds, longest - seconds),
    });
    events += round.events;
    seconds += round.seconds;
    memory.push(residentMb(server.pid));
    lags.push((await pending()).age);
    const rate = show(round.events / round.seconds);
    console.log(
      `${show(events)} events, ${rate}/s, ${memory.at(-1)} MiB, ${show(lags.at(-1) ?? 0)} s behind`,
    );
  }
  const used = cpuBetween(cpu, readCpu(server.pid, postmaster));
  const ended = performance.now();
  if (values.role !== "api") {
    while ((await pending()).batches > 0 && performance.now() - ended < longestLagMs) await sleep(100);
  }
  const caughtUpMs = performance.now() - ended;
  const copyAfter = await copyRate();
  const { rows } = await database.query<{ stored: number }>("select count(*)::int as stored from events");
  if (rows[0]?.stored !== events) throw new Error(`${events} acknowledged, ${rows[0]?.stored} stored`);
  await server.stop();
  const rate = events / seconds;
  const ofCopy = rate / ((copyBefore + copyAfter) / 2);
  const result = {
    name: "ingest-long",
    title: `Ingest for ${show(seconds)} s, role ${values.role}: ${show(events)} events, all stored once`,
    columns: [
      "events/s",
      "of COPY",
      "server µs",
      "PostgreSQL µs",
      "lag at end s",
      "caught up s",
      "MiB first–last",
    ],
    rows: [
      [
        show(rate),
        `${show(ofCopy)}×`,
        show((used.server * 1e6) / events),
        show((used.postgres * 1e6) / events),
        show(lags.at(-1) ?? 0),
        show(caughtUpMs / 1_000),
        `${memory[0]}–${memory.at(-1)}`,
      ],
    ],
    figures: { events, seconds, rate, ofCopy, copyBefore, copyAfter, used, memory, lags, caughtUpMs },
  };
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
} finally {
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}
