/**
 * The SDK's gateway against others' clients, in the same run, on the same sink, with the same events.
 * node test/bench/sdk.ts [--events n] [--rounds n] [--only "a;b"]
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type BenchResult, printResult, show, spreadOf } from "./report.ts";
import { buildSdk } from "./sdk/build.ts";
import type { LibraryName } from "./sdk/library.ts";
import { runTask, type SinkProcess, startSink, startTask } from "./sdk/processes.ts";
import { playScenes, type SceneResult } from "./sdk/scenes.ts";
import type { SinkCounts } from "./sdk/sink.ts";
import type { TaskResult } from "./sdk/task.ts";

export interface SdkBenchOptions {
  readonly events: number;
  readonly rounds: number;
  readonly only?: readonly string[];
}

interface Setup {
  readonly name: string;
  readonly library: LibraryName;
  readonly gzip: boolean;
  readonly spool?: boolean;
}

/** Ours first. */
const setups: readonly Setup[] = [
  { name: "ours", library: "ours", gzip: false },
  { name: "ours, gzip", library: "ours", gzip: true },
  { name: "ours, spool", library: "ours", gzip: false, spool: true },
  { name: "ours, spool and gzip", library: "ours", gzip: true, spool: true },
  { name: "opentelemetry", library: "opentelemetry", gzip: false },
  { name: "opentelemetry, gzip", library: "opentelemetry", gzip: true },
  { name: "influxdb", library: "influxdb", gzip: false },
  { name: "influxdb, gzip", library: "influxdb", gzip: true },
  { name: "posthog", library: "posthog", gzip: false },
  { name: "posthog, gzip", library: "posthog", gzip: true },
  { name: "segment", library: "segment", gzip: false },
];

interface Delivered extends TaskResult {
  readonly perSecond: number;
  readonly events: number;
}

export async function sdkBench({ events, rounds, only }: SdkBenchOptions): Promise<BenchResult> {
  buildSdk();
  await using sink = await startSink();
  const chosen = setups.filter(({ name }) => !only || only.includes(name));
  const measured = new Map<string, Delivered[]>(chosen.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const setup of chosen) measured.get(setup.name)?.push(await deliver(setup, events, sink));
  }
  const backlogs = new Map<LibraryName, TaskResult>();
  for (const { library } of chosen) {
    if (!backlogs.has(library)) backlogs.set(library, await backlog(library, events / 2, sink));
  }
  const of = (name: string, key: keyof Delivered) =>
    spreadOf((measured.get(name) ?? []).map((result) => Number(result[key])));
  const rows = chosen.map(({ name, library }) => {
    const rate = of(name, "perSecond");
    const outage = backlogs.get(library);
    return [
      name,
      show(of(name, "enqueueUs").median),
      show(of(name, "blockP99Us").median),
      show(rate.median),
      `${show(rate.min)}–${show(rate.max)}`,
      show(of(name, "cpuSeconds").median),
      show(of(name, "stallMs").median),
      show(of(name, "peakBytes").median / 1e6),
      show(of(name, "events").median, 6),
      show(outage?.eventBytes ?? Number.NaN),
      show((outage?.lateUs ?? Number.NaN) / (outage?.earlyUs ?? Number.NaN)),
    ];
  });
  return {
    name: "sdk",
    title: `${show(events)} events of about 200 bytes to full delivery, each library with large batches`,
    columns: [
      "",
      "µs/event",
      "p99",
      "events/s",
      "spread",
      "CPU s",
      "stall ms",
      "peak MB",
      "delivered",
      "B/event queued",
      "late ÷ early",
    ],
    rows,
    notes: [
      "µs/event: in the call, blocks of 100. Queued: with the sink away, and what the last fifth of the calls took to the first.",
    ],
    figures: { ...Object.fromEntries(measured), backlogs: Object.fromEntries(backlogs) },
    comparisons: comparisons.flatMap(([what, ours, theirs, key]) =>
      measured.has(ours) && measured.has(theirs)
        ? [{ what: `gateway: ${what}`, peer: theirs, ours: of(ours, key), theirs: of(theirs, key) }]
        : [],
    ),
  };
}

/** What stands in the table of all benches: what is compared, and of which setups. */
const comparisons: readonly [what: string, ours: string, theirs: string, key: keyof Delivered][] = [
  ...["opentelemetry", "influxdb", "posthog", "segment"].map(
    (peer): [string, string, string, keyof Delivered] => ["µs to queue an event", "ours", peer, "enqueueUs"],
  ),
  ["events/s, gzip", "ours, gzip", "opentelemetry, gzip", "perSecond"],
  ["events/s, gzip", "ours, gzip", "influxdb, gzip", "perSecond"],
  ["events/s, gzip", "ours, gzip", "posthog, gzip", "perSecond"],
  ["events/s, spool and gzip", "ours, spool and gzip", "opentelemetry, gzip", "perSecond"],
  ["events/s, spool and gzip", "ours, spool and gzip", "influxdb, gzip", "perSecond"],
  ["CPU s", "ours", "opentelemetry", "cpuSeconds"],
  ["CPU s of the spool", "ours, spool", "ours", "cpuSeconds"],
  ["longest stall, ms", "ours", "opentelemetry", "stallMs"],
  ["peak memory", "ours", "opentelemetry", "peakBytes"],
];

/** Queues events while the sink is away. */
async function backlog(library: LibraryName, events: number, sink: SinkProcess): Promise<TaskResult> {
  await sink.tell({ kind: "down" });
  try {
    const { url, grpcUrl } = sink;
    const options = { url, grpcUrl, gzip: false, queue: 2 * events };
    return await runTask({ kind: "backlog", library, options, events });
  } finally {
    await sink.tell({ kind: "up" });
  }
}

async function deliver(setup: Setup, events: number, sink: SinkProcess): Promise<Delivered> {
  const { library, gzip, spool } = setup;
  const directory = spool ? await mkdtemp(path.join(os.tmpdir(), "pulsewire-sdk-bench-")) : undefined;
  try {
    await sink.tell({ kind: "reset", distinct: false });
    const { url, grpcUrl } = sink;
    const options = { url, grpcUrl, gzip, ...(directory && { spool: directory }) };
    const warmUp = Math.min(20_000, events);
    await using task = startTask({ kind: "deliver", library, options, events });
    const result = await task.next();
    // Some call a flush done while batches are under way: the process lives until they are there.
    const counts = await untilThere(sink, events + warmUp);
    const seconds = (counts.lastMs - result.startMs) / 1000;
    return { ...result, perSecond: events / seconds, events: counts.events - warmUp };
  } finally {
    if (directory) await rm(directory, { recursive: true, force: true });
  }
}

/** Waits until so many events have come, a second at most. */
async function untilThere(sink: SinkProcess, events: number): Promise<SinkCounts> {
  const end = performance.now() + 1_000;
  for (;;) {
    const counts = await sink.tell({ kind: "read" });
    if (counts.events >= events || performance.now() > end) return counts;
    await sleep(10);
  }
}

function scenesResult(results: readonly SceneResult[]): BenchResult {
  return {
    name: "sdk-scenes",
    title:
      "10,000 events (30,000 in a burst) when something goes wrong, each library as it is out of the box",
    columns: ["", "library", "delivered", "sent twice", ""],
    rows: results.map(({ scene, library, delivered, repeated, says }) => [
      scene,
      library,
      show(delivered, 6),
      show(repeated, 6),
      says,
    ]),
    figures: results,
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      events: { type: "string", default: "200000" },
      rounds: { type: "string", default: "3" },
      only: { type: "string" },
      scenes: { type: "boolean", default: false },
    },
  });
  const only = values.only?.split(";");
  if (values.scenes) {
    buildSdk();
    printResult(scenesResult(await playScenes(values.only)));
    process.exit();
  }
  printResult(
    await sdkBench({ events: Number(values.events), rounds: Number(values.rounds), ...(only && { only }) }),
  );
}
