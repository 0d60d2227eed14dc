/** All benches: node test/bench/run.ts [--json bench.json] [--seconds n] [--rounds n] */
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { authBench } from "./auth.ts";
import { functionsBench } from "./functions.ts";
import { ingestBench } from "./ingest.ts";
import { metricsBench } from "./metrics.ts";
import { progressBench } from "./progress.ts";
import { printResult, writeReport } from "./report.ts";

const { values } = parseArgs({
  options: {
    json: { type: "string", default: "bench.json" },
    seconds: { type: "string", default: "5" },
    rounds: { type: "string", default: "5" },
  },
});
const results = [];
// Functions need a Docker engine of their own, which not every machine can run.
const canRunDocker = existsSync("/usr/sbin/dockerd") && process.geteuid?.() === 0;
for (const bench of [
  ingestBench,
  authBench,
  metricsBench,
  progressBench,
  ...(canRunDocker ? [functionsBench] : []),
]) {
  const result = await bench({ seconds: Number(values.seconds), rounds: Number(values.rounds) });
  printResult(result);
  results.push(result);
}
writeReport(values.json, results);
