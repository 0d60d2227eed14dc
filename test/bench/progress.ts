/**
 * Progress: 200 callers on one file, and watchers of one file.
 * node test/bench/progress.ts [--json file] [--seconds n] [--rounds n] [--watchers 1000,10000] [--profile]
 *
 * The real server on its own durable PostgreSQL, against Fastify with one UPDATE a call on the same PostgreSQL, Fastify with
 * Redis, and server-sent events on node:http. Loads in processes of their own, the workloads in turns.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { create, toBinary } from "@bufbuild/protobuf";
import { ProgressService } from "../../sdk/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { connectToDatabase } from "../faults/database.ts";
import { postmasterOf } from "../faults/processes.ts";
import { startRedis } from "../helpers/redis.ts";
import {
  endWithThisProcess,
  readDemoKey,
  type ServerProcess,
  startServerProcess,
} from "../helpers/server-process.ts";
import { cpuBetween, readCpu } from "./cpu.ts";
import type { Http1CallOptions } from "./http1-calls.ts";
import type { LoadCommand } from "./load.ts";
import { startLoadProcess } from "./load-process.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import type { PeerOptions } from "./progress-peers.ts";
import { type BenchResult, printResult, type Spread, show, spreadOf, writeReport } from "./report.ts";
import type { WatchCommand, WatchRound } from "./watch-load.ts";
import { runWatchers } from "./watch-process.ts";

const callers = 200;
const grpcConnections = 8;
const warmUpSeconds = 2;
const pacedUpdatesPerSecond = 10;
/** Reporters that keep the watchers busy at full speed. */
const reporters = 4;
const clientKrn = "krn:demo:client:bench";

export interface ProgressBenchOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly watchers?: readonly number[];
  readonly profile?: boolean;
}

interface Peer extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
}

async function startPeer(kind: string, options: PeerOptions = {}): Promise<Peer> {
  const child = fork(path.join(import.meta.dirname, "progress-peers.ts"), [kind, JSON.stringify(options)], {
    execArgv: [],
  });
  endWithThisProcess(child);
  const [{ url }] = (await once(child, "message")) as [{ url: string }];
  return {
    url,
    pid: child.pid as number,
    async [Symbol.asyncDispose]() {
      const ended = once(child, "exit");
      child.disconnect();
      await ended;
    },
  };
}

const { reportProgress } = ProgressService.method;
const reportPath = `/${ProgressService.typeName}/${reportProgress.name}`;

const jsonReport = (
  server: ServerProcess,
  apiKey: string,
  filename: string,
): Omit<Http1CallOptions, "callers"> => ({
  url: server.url,
  path: reportPath,
  headers: { "x-api-key": apiKey },
  body: JSON.stringify({ clientKrn, filename, counts: { done: "1" } }),
});

const peerReport = (url: string): Omit<Http1CallOptions, "callers"> => ({
  url,
  path: "/progress",
  headers: {},
  body: '{"done":1}',
});

export async function progressBench(options: ProgressBenchOptions): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using server = await startServerProcess(
      { PULSEWIRE_DATA_DIR: dataDir },
      { nodeOptions: options.profile ? profilableOptions : [] },
    );
    const apiKey = readDemoKey(dataDir);
    const reports = await reportBench(options, server, apiKey, dataDir);
    const watches: WatchRow[] = [];
    for (const watchers of options.watchers ?? [1_000, 10_000]) {
      watches.push(await watchBench(options, server, apiKey, watchers));
    }
    await server.stop();
    return resultOf(options, reports, watches);
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

// --- Reports --------------------------------------------------------------------------------------------------------

interface Measured {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU of the process that answers, µs a call. */
  readonly micros: number;
  /** CPU of PostgreSQL or Redis, µs a call. */
  readonly storeMicros: number;
  /** CPU of the load, µs a call. */
  readonly loadMicros: number;
}

/** What is measured, and the processes that work for it. */
interface Contestant {
  readonly command: LoadCommand;
  readonly pid: number;
  readonly storePid: number;
}

const ours = { grpc: "Pulsewire, gRPC", json: "Pulsewire, JSON" } as const;
const peers = { updating: "Fastify, one UPDATE a call", counting: "Fastify, Redis HINCRBY" } as const;

async function reportBench(
  { seconds, rounds, profile }: ProgressBenchOptions,
  server: ServerProcess,
  apiKey: string,
  dataDir: string,
): Promise<Map<string, Measured[]>> {
  await using database = await connectToDatabase(dataDir);
  await using redis = await startRedis();
  const { host, user, database: name } = database;
  const connection = { host, user: user as string, database: name as string };
  await using updating = await startPeer("updating", { database: connection });
  await using counting = await startPeer("counting", { redisUrl: redis.url });
  await using load = startLoadProcess();
  const message = create(reportProgress.input, { clientKrn, filename: "grpc.csv", counts: { done: 1n } });
  const storePid = postmasterOf(dataDir);
  const contestants: Record<string, Contestant> = {
    [ours.grpc]: {
      pid: server.pid,
      storePid,
      command: {
        kind: "rpc-grpc",
        url: server.url,
        path: reportPath,
        headers: { "x-api-key": apiKey },
        body: Buffer.from(toBinary(reportProgress.input, message)).toString("base64"),
        callers,
        connections: grpcConnections,
        seconds,
      },
    },
    [ours.json]: {
      pid: server.pid,
      storePid,
      command: { kind: "http1", ...jsonReport(server, apiKey, "json.csv"), callers, seconds },
    },
    [peers.updating]: {
      pid: updating.pid,
      storePid,
      command: { kind: "http1", ...peerReport(updating.url), callers, seconds },
    },
    [peers.counting]: {
      pid: counting.pid,
      storePid: redis.pid,
      command: { kind: "http1", ...peerReport(counting.url), callers, seconds },
    },
  };
  const acknowledged = new Map<string, number>();
  const measure = async (title: string, command: LoadCommand): Promise<Measured> => {
    const { pid, storePid } = contestants[title] as Contestant;
    const readNow = () => readCpu(pid, storePid);
    let before = readNow();
    let after = before;
    const {
      calls,
      seconds: took,
      clientCpu,
      p50Ms,
      p99Ms,
    } = await load.run(
      command,
      () => {
        before = readNow();
      },
      () => {
        after = readNow();
      },
    );
    acknowledged.set(title, (acknowledged.get(title) ?? 0) + calls);
    const cpu = cpuBetween(before, after);
    const micros = (seconds: number) => (seconds * 1e6) / calls;
    return {
      perSecond: calls / took,
      p50Ms,
      p99Ms,
      micros: micros(cpu.server),
      storeMicros: micros(cpu.postgres),
      loadMicros: micros(clientCpu),
    };
  };
  const measured = new Map<string, Measured[]>(Object.keys(contestants).map((title) => [title, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [title, { command }] of Object.entries(contestants)) {
      const given = round < 0 ? { ...command, seconds: warmUpSeconds } : command;
      const result = await measure(title, given);
      if (round >= 0) measured.get(title)?.push(result);
    }
  }
  if (profile) {
    using profiler = await connectProfiler(server.notices);
    for (const title of Object.values(ours)) {
      const { command } = contestants[title] as Contestant;
      await profiler.start();
      await measure(title, command);
      printSummary(title, summarize(await profiler.stop(), 50));
    }
  }
  for (const [title, filename] of [
    [ours.grpc, "grpc.csv"],
    [ours.json, "json.csv"],
  ] as const) {
    const { rows } = await database.query<{ done: string }>(
      "select done from progress_files where filename = $1",
      [filename],
    );
    if (Number(rows[0]?.done) !== acknowledged.get(title)) {
      throw new Error(`${acknowledged.get(title)} reports were acknowledged, ${rows[0]?.done} are counted`);
    }
  }
  return measured;
}

// --- Watchers -------------------------------------------------------------------------------------------------------

interface WatchRow {
  readonly watchers: number;
  readonly full: Record<"ours" | "sse", WatchRound[]>;
  readonly paced: WatchRound;
  readonly bytesEach: Record<"ours" | "sse", number>;
}

async function watchBench(
  { seconds, rounds }: ProgressBenchOptions,
  server: ServerProcess,
  apiKey: string,
  watchers: number,
): Promise<WatchRow> {
  const full: WatchRow["full"] = { ours: [], sse: [] };
  const bytes: Record<"ours" | "sse", number[]> = { ours: [], sse: [] };
  let files = 0;
  const run = async (kind: "ours" | "sse", peer: Peer, paced: boolean): Promise<WatchRound> => {
    const filename = `watched-${watchers}-${++files}.csv`;
    const { url, pid } = kind === "ours" ? server : peer;
    const updates =
      kind === "ours" ? jsonReport(server, apiKey, filename) : { ...peerReport(url), path: "/update" };
    const command: WatchCommand = {
      kind,
      url,
      apiKey,
      clientKrn,
      filename,
      watchers,
      seconds: paced ? Math.max(5, seconds) : seconds,
      updates: { ...updates, callers: paced ? 1 : reporters },
      ...(paced && { updatesPerSecond: pacedUpdatesPerSecond }),
    };
    const before = memoryOf(pid);
    return await runWatchers(command, () => {
      bytes[kind].push((memoryOf(pid) - before) / watchers);
    });
  };
  for (let round = 0; round < rounds; round++) {
    full.ours.push(await run("ours", { url: "", pid: 0 } as Peer, false));
    await using sse = await startPeer("streaming");
    full.sse.push(await run("sse", sse, false));
  }
  const paced = await run("ours", { url: "", pid: 0 } as Peer, true);
  // The first round of each: later ones reuse what the process holds already.
  return { watchers, full, paced, bytesEach: { ours: bytes.ours[0] ?? 0, sse: bytes.sse[0] ?? 0 } };
}

/** Memory that a process has in use, bytes. */
function memoryOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1_024;
}

// --- Result ---------------------------------------------------------------------------------------------------------

function resultOf(
  { seconds, rounds }: ProgressBenchOptions,
  reports: ReadonlyMap<string, readonly Measured[]>,
  watches: readonly WatchRow[],
): BenchResult {
  const ratio = (title: string, peer: string): Spread => {
    const against = reports.get(peer) ?? [];
    return spreadOf(
      (reports.get(title) ?? []).map(
        ({ perSecond }, index) => perSecond / (against[index]?.perSecond ?? Number.NaN),
      ),
    );
  };
  const reportRows = [...reports].map(([title, measured]) => {
    const of = (value: (each: Measured) => number) => show(spreadOf(measured.map(value)).median);
    return [
      title,
      of(({ perSecond }) => perSecond),
      of(({ micros }) => micros),
      of(({ storeMicros }) => storeMicros),
      of(({ loadMicros }) => loadMicros),
      of(({ p50Ms }) => p50Ms),
      of(({ p99Ms }) => p99Ms),
      `${show(ratio(title, peers.updating).median)}×`,
      `${show(ratio(title, peers.counting).median)}×`,
    ];
  });
  const figuresOf = watches.map(({ watchers, full, paced, bytesEach }) => {
    const rate = (rounds: readonly WatchRound[], value: (round: WatchRound) => number) =>
      spreadOf(rounds.map((round) => value(round) / round.seconds));
    const ourMessages = rate(full.ours, ({ messages }) => messages);
    const ourChanges = rate(full.ours, ({ changes }) => changes);
    const sseMessages = rate(full.sse, ({ changes }) => changes);
    return {
      watchers,
      ourMessages,
      ourChanges,
      sseMessages,
      ofMessages: ourMessages.median / sseMessages.median,
      ofChanges: ourChanges.median / sseMessages.median,
      bytesEach,
      ofMemory: bytesEach.ours / bytesEach.sse,
      paced,
      faulty: [...full.ours, paced].reduce((sum, each) => sum + each.faulty, 0),
    };
  });
  const notes = figuresOf.map(
    (each) =>
      `${show(each.watchers)} watchers: ${show(each.ourMessages.median)} messages/s with ${show(each.ourChanges.median)} changes/s, ` +
      `SSE ${show(each.sseMessages.median)} (${show(each.ofMessages)}× in messages, ${show(each.ofChanges)}× in changes); ` +
      `${show(each.bytesEach.ours / 1_024)} kB a watcher, SSE ${show(each.bytesEach.sse / 1_024)} kB (${show(each.ofMemory)}×); ` +
      `at ${pacedUpdatesPerSecond} updates/s delays of p50 ${show(each.paced.p50Ms)}, p99 ${show(each.paced.p99Ms)}, ` +
      `most ${show(each.paced.maxMs)} ms; ${each.faulty} watchers missed something`,
  );
  return {
    name: "progress",
    title: `Progress: ${callers} callers on one file, ${rounds} rounds of ${seconds} s in turns, medians`,
    columns: ["", "calls/s", "CPU µs", "store µs", "load µs", "p50 ms", "p99 ms", "of UPDATE", "of Redis"],
    rows: reportRows,
    notes,
    comparisons: [
      ...Object.values(ours).flatMap((title) =>
        Object.values(peers).map((peer) => ({
          what: `progress, one file, ${title}, calls/s`,
          peer,
          ours: spreadOf((reports.get(title) ?? []).map(({ perSecond }) => perSecond)),
          theirs: spreadOf((reports.get(peer) ?? []).map(({ perSecond }) => perSecond)),
        })),
      ),
      ...figuresOf.flatMap(({ watchers, ourMessages, ourChanges, sseMessages, bytesEach }) => [
        {
          what: `${watchers} watch progress, messages/s`,
          peer: "SSE",
          ours: ourMessages,
          theirs: sseMessages,
        },
        { what: `${watchers} watch progress, changes/s`, peer: "SSE", ours: ourChanges, theirs: sseMessages },
        {
          what: `${watchers} watch progress, bytes each (less is better)`,
          peer: "SSE",
          ours: spreadOf([bytesEach.ours]),
          theirs: spreadOf([bytesEach.sse]),
        },
      ]),
    ],
    figures: { seconds, rounds, callers, reports: Object.fromEntries(reports), watches: figuresOf },
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      seconds: { type: "string", default: "5" },
      rounds: { type: "string", default: "3" },
      watchers: { type: "string", default: "1000,10000" },
      profile: { type: "boolean", default: false },
    },
  });
  const result = await progressBench({
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    watchers: values.watchers.split(",").filter(Boolean).map(Number),
    profile: values.profile,
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
