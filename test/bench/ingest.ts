/**
 * Ingest against plain COPY: node test/bench/ingest.ts [--json file] [--seconds n] [--rounds n] [--profile]
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
import {
  connectProfiler,
  type ProfileSummary,
  printSummary,
  profilableOptions,
  summarize,
} from "./profile.ts";
import { type BenchResult, printResult, show, spreadOf, writeReport } from "./report.ts";
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
}

interface Measured extends Round {
  readonly cpu: CpuReading;
}

export async function ingestBench({ seconds, rounds, profile }: IngestBenchOptions): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using server = await startServerProcess(
      { PULSEWIRE_DATA_DIR: dataDir },
      { nodeOptions: profile ? profilableOptions : [] },
    );
    await using load = startLoadProcess();
    await using database = await connectToDatabase(dataDir);
    const postmaster = postmasterOf(dataDir);
    const target = { url: server.url, apiKey: readDemoKey(dataDir) };
    const { host, user, database: name } = database;
    const commands: Record<string, LoadCommand> = {
      "COPY by 500, 2 connections": {
        kind: "copy",
        database: { host, user: user as string, database: name as string },
        callers: copyConnections,
        size: batchSize,
        seconds,
      },
      "gRPC batches of 500": {
        kind: "batch",
        ...target,
        callers: batchCallers,
        connections: grpcConnections,
        size: batchSize,
        seconds,
      },
      "gRPC single, 64 callers": {
        kind: "single",
        ...target,
        callers: singleCallers,
        connections: grpcConnections,
        seconds,
      },
      "JSON single, 64 callers": { kind: "json", ...target, callers: singleCallers, seconds },
    };
    let acknowledged = 0;
    const measure = async (command: LoadCommand): Promise<Measured> => {
      let before = readCpu(server.pid, postmaster);
      let after = before;
      const round = await load.run(
        command,
        () => {
          before = readCpu(server.pid, postmaster);
        },
        () => {
          after = readCpu(server.pid, postmaster);
        },
      );
      if (command.kind !== "copy") acknowledged += round.events;
      return { ...round, cpu: cpuBetween(before, after) };
    };

    const measured = new Map(Object.keys(commands).map((title) => [title, [] as Measured[]]));
    for (const command of Object.values(commands)) await measure({ ...command, seconds: warmUpSeconds });
    for (let round = 0; round < rounds; round++) {
      for (const [title, command] of Object.entries(commands))
        measured.get(title)?.push(await measure(command));
    }

    const profiles: Record<string, ProfileSummary> = {};
    if (profile) {
      using profiler = await connectProfiler(server.notices);
      for (const [title, command] of Object.entries(commands)) {
        if (command.kind === "copy") continue;
        await profiler.start();
        await measure(command);
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
      // Each round against the COPY next to it in time.
      ofCopy: spreadOf(
        rounds.map(({ events, seconds }, index) => {
          const copy = [...measured.values()][0]?.[index] as Measured;
          return events / seconds / (copy.events / copy.seconds);
        }),
      ),
      serverMicros: perEvent(({ cpu }) => cpu.server),
      postgresMicros: perEvent(({ cpu }) => cpu.postgres),
      clientMicros: perEvent(({ clientCpu }) => clientCpu),
      p50Ms: spread(({ p50Ms }) => p50Ms),
      p99Ms: spread(({ p99Ms }) => p99Ms),
    };
  });
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
      of.title.startsWith("COPY") ? "" : show(of.serverMicros.median),
      show(of.postgresMicros.median),
      show(of.clientMicros.median),
      show(of.p50Ms.median),
      show(of.p99Ms.median),
    ]),
    notes: [
      `µs: CPU time of each process per event. ${show(run.stored)} events acknowledged, as many stored.`,
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
    },
  });
  const result = await ingestBench({
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    profile: values.profile,
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
