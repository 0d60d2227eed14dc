/** All benches: node test/bench/run.ts [--json bench.json] [--seconds n] [--rounds n] [--without alerts,functions] [--watchers 1000,5000] */
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { alertsBench } from "./alerts.ts";
import { analyticsBench } from "./analytics.ts";
import { authBench } from "./auth.ts";
import { fanOutBench } from "./fan-out.ts";
import { functionsBench } from "./functions.ts";
import { ingestBench } from "./ingest.ts";
import { metricsBench } from "./metrics.ts";
import { noisyNeighbourBench } from "./noisy-neighbour.ts";
import { progressBench } from "./progress.ts";
import { printComparisons, printResult, writeReport } from "./report.ts";
import { restBench } from "./rest.ts";
import { rpcBench } from "./rpc.ts";
import { sdkBench } from "./sdk.ts";
import { sdkSizeBench } from "./sdk-size.ts";
import { sustainedBench } from "./sustained.ts";

const { values } = parseArgs({
  options: {
    json: { type: "string", default: "bench.json" },
    seconds: { type: "string", default: "5" },
    rounds: { type: "string", default: "5" },
    without: { type: "string", default: "" },
    watchers: { type: "string", default: "1000,5000" },
  },
});
const results = [];
// Functions need a Docker engine of their own, which not every machine can run.
const canRunDocker = existsSync("/usr/sbin/dockerd") && process.geteuid?.() === 0;
const figures = async ({ rounds }: { rounds: number }) =>
  analyticsBench({ events: [100_000, 500_000], calls: 20 * rounds });
const fanOut = async ({ seconds, rounds }: { seconds: number; rounds: number }) =>
  fanOutBench({ seconds, rounds, watchers: values.watchers.split(",").map(Number) });
const sustained = async ({ seconds }: { seconds: number }) => sustainedBench({ seconds: 4 * seconds });
const alerts = async ({ seconds, rounds }: { seconds: number; rounds: number }) =>
  alertsBench({ seconds: Math.max(5, seconds), rounds: Math.min(3, rounds) });
const sdk = async ({ seconds, rounds }: { seconds: number; rounds: number }) =>
  sdkBench({ events: 20_000 * seconds, rounds });
const benches = {
  rpc: rpcBench,
  rest: restBench,
  fanOut,
  ingest: ingestBench,
  sustained,
  analytics: figures,
  auth: authBench,
  metrics: metricsBench,
  alerts,
  noisyNeighbour: noisyNeighbourBench,
  progress: progressBench,
  sdk,
  sdkSize: sdkSizeBench,
  ...(canRunDocker && { functions: functionsBench }),
};
const without = values.without.split(",");
for (const [name, bench] of Object.entries(benches)) {
  if (without.includes(name)) continue;
  const result = await bench({ seconds: Number(values.seconds), rounds: Number(values.rounds) });
  printResult(result);
  results.push(result);
}
printComparisons(results);
writeReport(values.json, results);
