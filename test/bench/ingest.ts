/**
 * Ingest against plain COPY, and single events against FastAPI + asyncpg, Fastify + pg and the bare calls of grpc-js: node test/bench/ingest.ts [--json file] [--seconds n] [--rounds n] [--profile] [--only part of a title]
 *
 * The real server on its own durable PostgreSQL, the load in a process of its own, the workloads in turns, so that all meet
 * the same machine. Every answer is an event committed: the table is counted in the end.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { connectToDatabase } from "../faults/database.ts";
import { postmasterOf } from "../faults/processes.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { type CpuReading, cpuBetween, readCpu } from "./cpu.ts";
import type { LoadCommand } from "./load.ts";
import { startLoadProcess } from "./load-process.ts";
import { createPeerTable, type Peer, startPeer } from "./peers/start.ts";
import {
  connectProfiler,
  type ProfileSummary,
  printSummary,
  profilableOptions,
  summarize,
} from "./profile.ts";
import {
  type BenchResult,
  type Comparison,
  printResult,
  type Spread,
  show,
  spreadOf,
  writeReport,
} from "./report.ts";
import type { Round } from "./workload.ts";

const batchSize = 500;
const copyConnections = 2;
const batchCallers = 8;
const singleCallers = 64;
/** HTTP/2 connections that the callers share. */
const grpcConnections = 4;
const warmUpSeconds = 2;

export interface IngestBenchOptions {
  readonly seconds: number;
  readonly rounds: number;
  /** Also profiles the server, in rounds that do not count. */
  readonly profile?: boolean;
  /** Runs only COPY and what has this in its title. */
  readonly only?: string;
}

interface Measured extends Round {
  readonly cpu: CpuReading;
}

/** A load, and who is loaded. */
interface Bench {
  readonly command: LoadCommand;
  /** The server, whose CPU is counted. */
  readonly pid: number;
  /** Whether what is acknowledged must be in our table. */
  readonly ours: boolean;
}

const copyTitle = "COPY by 500, 2 connections";
const batchTitle = "gRPC batches of 500";
const singleTitle = "gRPC single, 64 callers";
const jsonTitle = "JSON single, 64 callers";
const peerTitles = {
  fastapi: "FastAPI + asyncpg single",
  fastify: "Fastify + pg single",
  "grpc-js": "grpc-js, call without work",
} as const;

export async function ingestBench({
  seconds,
  rounds,
  profile,
  only = "",
}: IngestBenchOptions): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    // Ingestion alone: what workers cost is measured by ingest-long.ts.
    await using server = await startServerProcess(
      { PULSEWIRE_DATA_DIR: dataDir, PULSEWIRE_ROLE: "api" },
      { nodeOptions: profile ? profilableOptions : [] },
    );
    await using load = startLoadProcess();
    await using database = await connectToDatabase(dataDir);
    await createPeerTable(database);
    await using fastapi = await startPeer("fastapi", database);
    await using fastify = await startPeer("fastify", database);
    await using grpcJs = await startPeer("grpc-js", database);
    const postmaster = postmasterOf(dataDir);
    const target = { url: server.url, apiKey: readDemoKey(dataDir) };
    const { host, user, database: name } = database;
    const { pid } = server;
    const single = { callers: singleCallers, seconds };
    const peer = (kind: "fastapi" | "fastify", { url, pid: own }: Peer): [string, Bench] => [
      peerTitles[kind],
      { command: { kind: "json", url, apiKey: "none", ...single, path: "/events" }, pid: own, ours: false },
    ];
    const benches = new Map<string, Bench>([
      [
        copyTitle,
        {
          command: {
            kind: "copy",
            database: { host, user: user as string, database: name as string },
            callers: copyConnections,
            size: batchSize,
            seconds,
          },
          pid,
          ours: false,
        },
      ],
      [
        batchTitle,
        {
          command: {
            kind: "batch",
            ...target,
            callers: batchCallers,
            connections: grpcConnections,
            size: batchSize,
            seconds,
          },
          pid,
          ours: true,
        },
      ],
      [
        singleTitle,
        { command: { kind: "single", ...target, connections: grpcConnections, ...single }, pid, ours: true },
      ],
      [jsonTitle, { command: { kind: "json", ...target, ...single }, pid, ours: true }],
      peer("fastapi", fastapi),
      peer("fastify", fastify),
      [
        peerTitles["grpc-js"],
        {
          command: {
            kind: "single",
            url: grpcJs.url,
            apiKey: "none",
            connections: grpcConnections,
            ...single,
          },
          pid: grpcJs.pid,
          ours: false,
        },
      ],
    ]);
    for (const title of benches.keys()) {
      if (title !== copyTitle && !title.includes(only)) benches.delete(title);
    }
    let acknowledged = 0;
    const measure = async ({ command, pid: loaded, ours }: Bench): Promise<Measured> => {
      let before = readCpu(loaded, postmaster);
      let after = before;
      const round = await load.run(
        command,
        () => {
          before = readCpu(loaded, postmaster);
        },
        () => {
          after = readCpu(loaded, postmaster);
        },
      );
      if (ours) acknowledged += round.events;
      return { ...round, cpu: cpuBetween(before, after) };
    };

    const measured = new Map([...benches.keys()].map((title) => [title, [] as Measured[]]));
    for (const bench of benches.values()) {
      await measure({ ...bench, command: { ...bench.command, seconds: warmUpSeconds } });
    }
    for (let round = 0; round < rounds; round++) {
      for (const [title, bench] of benches) measured.get(title)?.push(await measure(bench));
    }

    const profiles: Record<string, ProfileSummary> = {};
    if (profile) {
      using profiler = await connectProfiler(server.notices);
      for (const [title, bench] of benches) {
        if (!bench.ours) continue;
        await profiler.start();
        await measure(bench);
        profiles[title] = summarize(await profiler.stop());
        printSummary(title, profiles[title]);
      }
    }

    const { rows } = await database.query<{ stored: number }>("select count(*)::int as stored from events");
    const stored = rows[0]?.stored;
    if (stored !== acknowledged)
      throw new Error(`${acknowledged} events were acknowledged, ${stored} are stored`);
    await server.stop();
    return resultOf(measured, { seconds, rounds, stored, profiles });
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

/** Each round against that of another load next to it in time. */
function ratioOf(measured: ReadonlyMap<string, readonly Measured[]>, title: string, other: string): Spread {
  const rates = (of: string) => (measured.get(of) ?? []).map(({ events, seconds }) => events / seconds);
  const others = rates(other);
  return spreadOf(rates(title).map((rate, index) => rate / (others[index] ?? Number.NaN)));
}

function resultOf(
  measured: ReadonlyMap<string, readonly Measured[]>,
  run: { seconds: number; rounds: number; stored: number; profiles: Record<string, ProfileSummary> },
): BenchResult {
  const workloads = [...measured].map(([title, rounds]) => {
    const spread = (of: (round: Measured) => number) => spreadOf(rounds.map(of));
    const perEvent = (seconds: (round: Measured) => number) =>
      spread((round) => (seconds(round) * 1e6) / round.events);
    return {
      title,
      eventsPerSecond: spread(({ events, seconds }) => events / seconds),
      ofCopy: ratioOf(measured, title, copyTitle),
      serverMicros: perEvent(({ cpu }) => cpu.server),
      postgresMicros: perEvent(({ cpu }) => cpu.postgres),
      clientMicros: perEvent(({ clientCpu }) => clientCpu),
      p50Ms: spread(({ p50Ms }) => p50Ms),
      p99Ms: spread(({ p99Ms }) => p99Ms),
    };
  });
  const rateOf = (title: string) => workloads.find((each) => each.title === title)?.eventsPerSecond;
  const compare = (title: string, other: string, peer = other): Comparison[] => {
    const [ours, theirs] = [rateOf(title), rateOf(other)];
    return ours && theirs ? [{ what: `ingest, ${title}, events/s`, peer, ours, theirs }] : [];
  };
  return {
    name: "ingest",
    title: `Ingest: committed events, ${run.rounds} rounds of ${run.seconds} s in turns, medians (least–most)`,
    columns: [
      "workload",
      "events/s",
      "",
      "of COPY",
      "server µs",
      "PostgreSQL µs",
      "load µs",
      "p50 ms",
      "p99 ms",
    ],
    rows: workloads.map((of) => [
      of.title,
      show(of.eventsPerSecond.median),
      `(${show(of.eventsPerSecond.min)}–${show(of.eventsPerSecond.max)})`,
      `${show(of.ofCopy.median)}×`,
      of.title === copyTitle ? "" : show(of.serverMicros.median),
      show(of.postgresMicros.median),
      show(of.clientMicros.median),
      show(of.p50Ms.median),
      show(of.p99Ms.median),
    ]),
    notes: [
      ...Object.values(peerTitles).flatMap((peer) => {
        if (!measured.has(peer) || !measured.has(singleTitle)) return [];
        const ratio = ratioOf(measured, singleTitle, peer);
        return [`${singleTitle}: ${show(ratio.median)}× (${show(ratio.min)}–${show(ratio.max)}) of ${peer}`];
      }),
      `µs: CPU time of each process per event. ${show(run.stored)} events acknowledged, as many stored.`,
    ],
    comparisons: [
      ...compare(batchTitle, copyTitle, "COPY"),
      ...Object.values(peerTitles).flatMap((peer) =>
        [singleTitle, jsonTitle].flatMap((ours) => compare(ours, peer)),
      ),
    ],
    figures: { ...run, batchSize, batchCallers, singleCallers, grpcConnections, copyConnections, workloads },
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      seconds: { type: "string", default: "5" },
      rounds: { type: "string", default: "5" },
      profile: { type: "boolean", default: false },
      only: { type: "string" },
    },
  });
  const result = await ingestBench({
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    profile: values.profile,
    ...(values.only && { only: values.only }),
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
