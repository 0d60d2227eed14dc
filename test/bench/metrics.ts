/**
 * Samples against InfluxDB 1.x and VictoriaMetrics: node test/bench/metrics.ts [--json file] [--seconds n] [--rounds n] [--profile]
 *
 * All three run side by side and get the same batches of 5,000 in turns: of gateways, which send several samples of a series at once,
 * and of scrapes, with one sample of each series. Pulsewire answers after the commit; the others are as they are. Then a day of 100
 * series is written to each, all put away what they have, and the day is asked for.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Client } from "pg";
import { connectToDatabase } from "../faults/database.ts";
import { postmasterOf, statOf } from "../faults/processes.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { readCpu } from "./cpu.ts";
import { startLoadProcess } from "./load-process.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import {
  type BenchResult,
  type Comparison,
  printResult,
  type Spread,
  show,
  spreadOf,
  writeReport,
} from "./report.ts";
import type { SampleLoad } from "./sample-calls.ts";
import { batchSize, type Shape } from "./sample-payloads.ts";
import { startInflux, startVictoria } from "./sample-peers.ts";
import type { Round } from "./workload.ts";

const callers = 4;
const dayMs = 86_400_000;
const queryStepMs = 300_000;
const queryRuns = 15;
/** Batches of 50 samples, 15 seconds apart, that make a day of 100 series. */
const dayBatches = Math.ceil(dayMs / 15_000 / 50);

export interface MetricsBenchOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly profile?: boolean;
}

interface System {
  readonly name: string;
  readonly target: SampleLoad["target"];
  cpu(): number;
  /** A mean for every 5 minutes of the day; the number of points and their sum. */
  query(): Promise<{ points: number; sum: number }>;
  /** Compacts or merges everything and tells the bytes on disk. */
  settledBytes(): Promise<number>;
}

export async function metricsBench({ seconds, rounds, profile }: MetricsBenchOptions): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using server = await startServerProcess(
      { PULSEWIRE_DATA_DIR: dataDir, PULSEWIRE_SAMPLE_COMPACTION_AGE: "1" },
      { nodeOptions: profile ? profilableOptions : [] },
    );
    await using load = startLoadProcess();
    await using database = await connectToDatabase(dataDir);
    await using influx = await startInflux();
    await using victoria = await startVictoria();
    const startMs = Math.floor(Date.now() / dayMs - 20) * dayMs;
    const systems: System[] = [
      await pulsewire(server.url, server.pid, dataDir, database, startMs),
      {
        name: "InfluxDB 1.6",
        target: { kind: "lines", url: influx.writeUrl },
        cpu: () => cpuOf(influx.pid),
        query: () => queryInflux(influx.url, startMs),
        settledBytes: () => influx.settledBytes(),
      },
      {
        name: "VictoriaMetrics",
        target: { kind: "lines", url: victoria.writeUrl },
        cpu: () => cpuOf(victoria.pid),
        query: () => queryVictoria(victoria.url, startMs),
        settledBytes: () => victoria.settledBytes(),
      },
    ];
    let written = 0;
    const send = async (system: System, shape: Shape, firstBatch: number, batches: number, by = callers) =>
      await load.run({
        kind: "samples",
        seconds: 120,
        target: system.target,
        shape,
        callers: by,
        firstBatch,
        batches,
        startMs,
      });

    const cpuBefore = systems.map((system) => system.cpu());
    // As many batches as the slowest would take the time for.
    const batches = Math.max(4, Math.round((seconds * 600_000) / batchSize / callers));
    const measured = new Map<string, { round: Round; cpu: number }[]>();
    let next = 0;
    const turn = async (shape: Shape, count: number, keep: boolean) => {
      for (const system of systems) {
        const before = system.cpu();
        const round = await send(system, shape, next, count);
        const key = `${system.name} ${shape}`;
        if (keep) measured.set(key, [...(measured.get(key) ?? []), { round, cpu: system.cpu() - before }]);
      }
      written += count * callers * batchSize;
    };
    for (const shape of ["gateway", "scrape"] as const) await turn(shape, Math.min(batches, 20), false);
    next = 20;
    for (let round = 0; round < rounds; round++, next += batches) {
      for (const shape of ["gateway", "scrape"] as const) await turn(shape, batches, true);
    }
    if (profile) {
      using profiler = await connectProfiler(server.notices);
      for (const shape of ["gateway", "scrape"] as const) {
        await profiler.start();
        await send(systems[0] as System, shape, next, batches);
        printSummary(shape, summarize(await profiler.stop()));
      }
    }
    for (const system of systems) await send(system, "day", 0, dayBatches, 1);
    written += dayBatches * batchSize;

    const bytes: number[] = [];
    for (const system of systems) bytes.push(await system.settledBytes());
    const cpuInAll = systems.map((system, index) => system.cpu() - (cpuBefore[index] as number));

    const queries = systems.map(() => [] as number[]);
    const answers = new Set<string>();
    for (let run = 0; run <= queryRuns; run++) {
      for (const [index, system] of systems.entries()) {
        const started = performance.now();
        const { points, sum } = await system.query();
        if (run > 0) queries[index]?.push(performance.now() - started);
        answers.add(`${points} points, ${sum.toPrecision(9)} in all`);
      }
    }
    if (answers.size > 1) throw new Error(`the answers differ: ${[...answers].join("; ")}`);
    await server.stop();
    return resultOf(systems, { measured, bytes, cpuInAll, queries, written, seconds, rounds, answers });
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

async function pulsewire(
  url: string,
  pid: number,
  dataDir: string,
  database: Client,
  startMs: number,
): Promise<System> {
  const apiKey = readDemoKey(dataDir);
  const headers = { "x-api-key": apiKey, "content-type": "application/json" };
  const call = async (method: string, body: object): Promise<Record<string, unknown>> => {
    const answer = await fetch(`${url}/pulsewire.metrics.v1.MetricsService/${method}`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method}: ${await answer.text()}`);
    return (await answer.json()) as Record<string, unknown>;
  };
  const { store } = (await call("CreateStore", { name: "bench" })) as { store: { id: string } };
  const postmaster = postmasterOf(dataDir);
  return {
    name: "Pulsewire",
    target: { kind: "pulsewire", url, apiKey, storeId: store.id },
    cpu() {
      const { server, postgres } = readCpu(pid, postmaster);
      return server + postgres;
    },
    async query() {
      const answers = await Promise.all(
        ["day_load", "day_requests_total"].map((name) =>
          call("QuerySamples", {
            name,
            start: new Date(startMs).toISOString(),
            end: new Date(startMs + dayMs).toISOString(),
            step: `${queryStepMs / 1_000}s`,
            aggregation: "AGGREGATION_AVG",
            maxPoints: 50_000,
          }),
        ),
      );
      const series = answers.flatMap((answer) => answer.series as { values: number[] }[]);
      return total(series.map(({ values }) => values));
    },
    async settledBytes() {
      for (const end = Date.now() + 60_000; ; await sleep(200)) {
        const { rows } = await database.query("select count(*)::int as batches from sample_batches");
        if (rows[0].batches === 0) break;
        if (Date.now() > end) throw new Error("the compaction does not end");
      }
      for (const table of ["sample_batches", "sample_blocks"]) await database.query(`vacuum ${table}`);
      const { rows } = await database.query(
        `select (pg_total_relation_size('sample_batches') + pg_total_relation_size('sample_blocks')
          + pg_total_relation_size('series'))::float8 as bytes`,
      );
      return rows[0].bytes;
    },
  };
}

async function queryInflux(url: string, startMs: number) {
  const q = ["day_load", "day_requests_total"]
    .map(
      (name) =>
        `select mean(value) from ${name} where time >= ${startMs}ms and time < ${startMs + dayMs}ms group by time(5m), host, core`,
    )
    .join(";");
  const answer = await fetch(`${url}/query?db=bench&epoch=ms&q=${encodeURIComponent(q)}`);
  const { results } = (await answer.json()) as { results: { series: { values: [number, number][] }[] }[] };
  return total(results.flatMap(({ series }) => series.map(({ values }) => values.map(([, value]) => value))));
}

/** A point of PromQL is the mean of what lies before it, so that the points are those of the ends of the steps. */
async function queryVictoria(url: string, startMs: number) {
  const at = (ms: number) => String((ms - 1) / 1_000);
  const parameters = new URLSearchParams({
    query: 'avg_over_time({__name__=~"day_(load|requests_total)"}[5m])',
    start: at(startMs + queryStepMs),
    end: at(startMs + dayMs),
    step: "5m",
    nocache: "1",
  });
  const answer = await fetch(`${url}/api/v1/query_range?${parameters}`);
  const { data } = (await answer.json()) as { data: { result: { values: [number, string][] }[] } };
  return total(data.result.map(({ values }) => values.map(([, value]) => Number(value))));
}

function total(series: number[][]) {
  return {
    points: series.reduce((sum, values) => sum + values.length, 0),
    sum: series.reduce((sum, values) => sum + values.reduce((a, b) => a + b, 0), 0),
  };
}

const cpuOf = (pid: number) => statOf(pid)?.cpu ?? Number.NaN;

function resultOf(
  systems: readonly System[],
  run: {
    measured: ReadonlyMap<string, readonly { round: Round; cpu: number }[]>;
    bytes: number[];
    cpuInAll: number[];
    queries: number[][];
    written: number;
    seconds: number;
    rounds: number;
    answers: ReadonlySet<string>;
  },
): BenchResult {
  const million = run.written / 1e6;
  const figures = systems.map(({ name }, index) => {
    const rates = (shape: Shape): Spread =>
      spreadOf((run.measured.get(`${name} ${shape}`) ?? []).map(({ round }) => round.events / round.seconds));
    const p99 = (shape: Shape): Spread =>
      spreadOf((run.measured.get(`${name} ${shape}`) ?? []).map(({ round }) => round.p99Ms));
    const cpu = (shape: Shape): Spread =>
      spreadOf(
        (run.measured.get(`${name} ${shape}`) ?? []).map(({ round, cpu }) => (cpu * 1e6) / round.events),
      );
    return {
      name,
      gateway: rates("gateway"),
      scrape: rates("scrape"),
      gatewayP99Ms: p99("gateway"),
      scrapeP99Ms: p99("scrape"),
      gatewayCpu: cpu("gateway"),
      scrapeCpu: cpu("scrape"),
      cpuInAll: (run.cpuInAll[index] as number) / million,
      bytesPerSample: (run.bytes[index] as number) / run.written,
      queryMs: spreadOf(run.queries[index] ?? []),
    };
  });
  const range = ({ median, min, max }: Spread) => `${show(median)} (${show(min)}–${show(max)})`;
  const influx = figures[1] as (typeof figures)[number];
  return {
    name: "metrics",
    title: `Samples in batches of ${batchSize}, ${callers} callers, ${run.rounds} rounds in turns, medians (least–most)`,
    columns: [
      "system",
      "gateway: samples/s",
      "of InfluxDB",
      "p99 ms",
      "CPU s a million",
      "scrape: samples/s",
      "of InfluxDB",
      "p99 ms",
      "CPU s a million",
      "CPU s a million in all",
      "bytes a sample",
      "24 h of 100 series, ms",
    ],
    rows: figures.map((of) => [
      of.name,
      range(of.gateway),
      `${show(of.gateway.median / influx.gateway.median)}×`,
      show(of.gatewayP99Ms.median),
      show(of.gatewayCpu.median),
      range(of.scrape),
      `${show(of.scrape.median / influx.scrape.median)}×`,
      show(of.scrapeP99Ms.median),
      show(of.scrapeCpu.median),
      show(of.cpuInAll),
      show(of.bytesPerSample),
      range(of.queryMs),
    ]),
    notes: [
      `${show(run.written)} samples to each. CPU: the system's processes, PostgreSQL included; in all: with compaction, until nothing was left to do.`,
      `The query: a mean for every 5 minutes, ${[...run.answers].join()}, the same from all.`,
    ],
    comparisons: figures.slice(1).flatMap((peer) => {
      const ours = figures[0] as (typeof figures)[number];
      const compare = (what: string, of: (system: typeof ours) => Spread): Comparison => ({
        what,
        peer: peer.name,
        ours: of(ours),
        theirs: of(peer),
      });
      return [
        compare("samples of a gateway, samples/s", ({ gateway }) => gateway),
        compare("samples of a scrape, samples/s", ({ scrape }) => scrape),
        compare("24 h of 100 series, ms (less is better)", ({ queryMs }) => queryMs),
        compare("bytes a sample (less is better)", ({ bytesPerSample }) => spreadOf([bytesPerSample])),
      ];
    }),
    figures: { ...run, measured: undefined, answers: [...run.answers], systems: figures },
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      seconds: { type: "string", default: "2" },
      rounds: { type: "string", default: "5" },
      profile: { type: "boolean", default: false },
    },
  });
  const result = await metricsBench({
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    profile: values.profile,
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
