/**
 * Alerts: node test/bench/alerts.ts [--json file] [--seconds n] [--rounds n]
 *
 * 10,000 series of 100 stores get a sample each second, without rules and with 1,000 rules, each about 100 of the series, in
 * turns on one server. What evaluation costs is the difference. While rules are there, single series cross the thresholds of
 * their ten rules: the time counts from before the call that writes the sample until a watcher has the alert.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import { AlertState, Comparison } from "../../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { MetricsService } from "../../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { postmasterOf } from "../faults/processes.ts";
import { grpcSession } from "../helpers/server.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { cpuBetween, readCpu } from "./cpu.ts";
import { type BenchResult, printResult, show, spreadOf, writeReport } from "./report.ts";

const stores = 100;
const metricsEach = 100;
const rulesEach = 10;
/** How often a series crosses. */
const probeEveryMs = 500;
const settleMs = 2_000;

interface Round {
  readonly serverCpu: number;
  readonly postgresCpu: number;
  readonly rssMb: number;
  readonly writeMs: number[];
  readonly fireMs: number[];
}

type Metrics = Client<typeof MetricsService>;
const metricName = (index: number) => `figure_${index}`;

export async function alertsBench({
  seconds,
  rounds,
}: {
  readonly seconds: number;
  readonly rounds: number;
}): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    using session = grpcSession(server.url, { "x-api-key": readDemoKey(dataDir) });
    using watching = grpcSession(server.url, { "x-api-key": readDemoKey(dataDir) });
    const metrics = createClient(MetricsService, session.transport);
    const storeIds: string[] = [];
    for (let index = 0; index < stores; index++)
      storeIds.push((await metrics.createStore({ name: `store ${index}` })).store?.id ?? "");
    const postmaster = postmasterOf(dataDir);
    const measure = async (probing: boolean): Promise<Round> => {
      await sleep(settleMs);
      const before = readCpu(server.pid, postmaster);
      const { writeMs, fireMs } = await drive(
        metrics,
        createClient(MetricsService, watching.transport),
        storeIds,
        seconds,
        probing,
      );
      const cpu = cpuBetween(before, readCpu(server.pid, postmaster));
      return {
        serverCpu: cpu.server / seconds,
        postgresCpu: cpu.postgres / seconds,
        rssMb: rssOf(server.pid),
        writeMs,
        fireMs,
      };
    };
    // Makes the series.
    await drive(metrics, metrics, storeIds, 2, false);
    const without: Round[] = [];
    const within: Round[] = [];
    const makingMs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      without.push(await measure(false));
      const begun = performance.now();
      const ruleIds = await createRules(metrics);
      makingMs.push(performance.now() - begun);
      within.push(await measure(true));
      // After the last round they go with the server.
      for (let from = 0; round < rounds - 1 && from < ruleIds.length; from += rulesEach) {
        const some = ruleIds.slice(from, from + rulesEach);
        await Promise.all(some.map((ruleId) => metrics.deleteAlertRule({ ruleId })));
      }
    }
    await server.stop();
    return resultOf(without, within, { seconds, rounds, makingMs });
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

async function createRules(metrics: Metrics): Promise<string[]> {
  const ids: string[] = [];
  for (let metric = 0; metric < metricsEach; metric++) {
    const made = await Promise.all(
      Array.from({ length: rulesEach }, (_, index) =>
        metrics.createAlertRule({
          spec: {
            name: `${metricName(metric)} ${index}`,
            metricName: metricName(metric),
            condition: {
              case: "threshold",
              value: { comparison: Comparison.GREATER, value: 1_000 + index },
            },
          },
        }),
      ),
    );
    ids.push(...made.map(({ rule }) => rule?.id ?? ""));
  }
  return ids;
}

/** Writes a sample of each series each second, the stores one after the other; and lets some cross. */
async function drive(
  metrics: Metrics,
  watcher: Metrics,
  storeIds: readonly string[],
  seconds: number,
  probing: boolean,
): Promise<Pick<Round, "writeMs" | "fireMs">> {
  const writeMs: number[] = [];
  const fireMs: number[] = [];
  const leave = new AbortController();
  const waiting = new Map<string, { sentAt: number; left: number }>();
  const watch = async () => {
    for await (const { alerts } of watcher.watchAlerts({}, { signal: leave.signal })) {
      for (const { storeId, metricName: name, state } of alerts) {
        const probe = waiting.get(`${storeId} ${name}`);
        if (state !== AlertState.FIRING || !probe) continue;
        // The last of the rules.
        if (--probe.left === 0) fireMs.push(performance.now() - probe.sentAt);
      }
    }
  };
  const watched = probing ? watch().catch(() => {}) : Promise.resolve();
  const started = performance.now();
  const pending: Promise<void>[] = [];
  const calls = seconds * stores;
  let probes = 0;
  for (let call = 0; call < calls; call++) {
    const wait = started + (call * 1_000) / stores - performance.now();
    if (wait > 0) await sleep(wait);
    const storeId = storeIds[call % stores] as string;
    const crosses =
      probing && performance.now() - started > probes * probeEveryMs && call < calls - 3 * stores
        ? probes++ % metricsEach
        : -1;
    const sentAt = performance.now();
    if (crosses >= 0) waiting.set(`${storeId} ${metricName(crosses)}`, { sentAt, left: rulesEach });
    const timestamp = timestampFromMs(Date.now());
    pending.push(
      metrics
        .writeSamples({
          storeId,
          series: Array.from({ length: metricsEach }, (_, metric) => ({
            name: metricName(metric),
            baseTime: timestamp,
            offsetsMs: [0],
            values: [metric === crosses ? 5_000 : (call + metric) % 100],
          })),
        })
        .then(() => {
          writeMs.push(performance.now() - sentAt);
        }),
    );
  }
  await Promise.all(pending);
  for (const end = performance.now() + 5_000; fireMs.length < probes && performance.now() < end; )
    await sleep(20);
  leave.abort();
  await watched;
  if (fireMs.length < probes)
    throw new Error(`${probes - fireMs.length} of ${probes} crossings were not told`);
  return { writeMs, fireMs };
}

function rssOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024;
}

const percentile = (values: readonly number[], part: number) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ??
  Number.NaN;

function resultOf(
  without: readonly Round[],
  within: readonly Round[],
  run: { readonly seconds: number; readonly rounds: number; readonly makingMs: readonly number[] },
): BenchResult {
  const row = (title: string, rounds: readonly Round[]) => [
    title,
    show(spreadOf(rounds.map(({ serverCpu }) => serverCpu)).median),
    show(spreadOf(rounds.map(({ postgresCpu }) => postgresCpu)).median),
    show(spreadOf(rounds.map(({ rssMb }) => rssMb)).median),
    show(spreadOf(rounds.map(({ writeMs }) => percentile(writeMs, 0.5))).median),
    show(spreadOf(rounds.map(({ writeMs }) => percentile(writeMs, 0.99))).median),
    ...[0.5, 0.99, 1].map((part) => {
      const fired = rounds.flatMap(({ fireMs }) => fireMs);
      return fired.length > 0 ? show(percentile(fired, part)) : "";
    }),
  ];
  return {
    name: "alerts",
    title: `Alerts: ${stores * metricsEach} series a second, ${metricsEach * rulesEach} rules, ${run.rounds} rounds of ${run.seconds} s in turns, medians`,
    columns: [
      "",
      "server CPU s/s",
      "PostgreSQL CPU s/s",
      "server MB",
      "write p50 ms",
      "write p99 ms",
      "fired p50 ms",
      "p99 ms",
      "most ms",
    ],
    rows: [row("without rules", without), row("with rules", within)],
    notes: [
      `Fired: from before the call that writes the sample until a watcher has the last of the ${rulesEach} alerts that it raises.`,
      `Rules were made in ${show(spreadOf(run.makingMs).median / 1_000)} s, ${rulesEach} at a time, with the series there.`,
    ],
    figures: { ...run, stores, metricsEach, rulesEach, without, within },
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      seconds: { type: "string", default: "15" },
      rounds: { type: "string", default: "3" },
    },
  });
  const result = await alertsBench({ seconds: Number(values.seconds), rounds: Number(values.rounds) });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
