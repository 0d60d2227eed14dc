/**
 * The SDK's gateway against others' clients, in the same run, on the same sink, with the same events.
 * node test/bench/sdk.ts [--events n] [--rounds n] [--only "a;b"]
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { type BenchResult, type Comparison, printResult, show, spreadOf } from "./report.ts";
import { buildSdk } from "./sdk/build.ts";
import type { LibraryName } from "./sdk/library.ts";
import { runTask, type SinkProcess, startSink } from "./sdk/processes.ts";
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
  const columns = ["", "us/event", "p99", "events/s", "spread", "CPU s", "stall ms", "peak MB", "delivered"];
  const rows = [...measured].map(([name, results]) => {
    const of = (key: keyof Delivered) => spreadOf(results.map((result) => Number(result[key])));
    const rate = of("perSecond");
    return [
      name,
      show(of("enqueueUs").median),
      show(of("blockP99Us").median),
      show(rate.median),
      `${show(rate.min)}–${show(rate.max)}`,
      show(of("cpuSeconds").median),
      show(of("stallMs").median),
      show(of("peakBytes").median / 1e6),
      show(of("events").median, 6),
    ];
  });
  return { name: "sdk", title: "sdk", columns, rows, figures: {}, comparisons: [] as Comparison[] };
}

async function deliver(setup: Setup, events: number, sink: SinkProcess): Promise<Delivered> {
  const { library, gzip, spool } = setup;
  const directory = spool ? await mkdtemp(path.join(os.tmpdir(), "pulsewire-sdk-bench-")) : undefined;
  try {
    await sink.tell({ kind: "reset", distinct: false });
    const { url, grpcUrl } = sink;
    const options = { url, grpcUrl, gzip, ...(directory && { spool: directory }) };
    const result = await runTask({ kind: "deliver", library, options, events });
    const warmUp = Math.min(20_000, events);
    const counts = await sink.tell({ kind: "read" });
    const seconds = (counts.lastMs - result.startMs) / 1000;
    return { ...result, perSecond: events / seconds, events: counts.events - warmUp };
  } finally {
    if (directory) await rm(directory, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      events: { type: "string", default: "200000" },
      rounds: { type: "string", default: "3" },
      only: { type: "string" },
    },
  });
  const only = values.only?.split(";");
  printResult(
    await sdkBench({ events: Number(values.events), rounds: Number(values.rounds), ...(only && { only }) }),
  );
}
