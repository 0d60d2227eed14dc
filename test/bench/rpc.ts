/**
 * The front door: a call that does nothing, ours with API key and validation against others with neither.
 * node test/bench/rpc.ts [--seconds n] [--rounds n] [--profile]
 */
import { parseArgs } from "node:util";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { ProgressService } from "../../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { startLoadProcess } from "./load-process.ts";
import { type CallRate, type MeasuredCall, measureCalls, ratesOf } from "./measure-calls.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import { type BenchResult, type Comparison, printResult, show } from "./report.ts";
import { type RpcServer, startRpcServer } from "./rpc-process.ts";

export interface RpcBenchOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly profile?: boolean;
}

/** What is compared: the kind of server, by protocol; ours first. */
const contests = [
  { title: "gRPC", load: "rpc-grpc", servers: ["ours", "grpc-js", "connect-node"] },
  { title: "JSON over HTTP/1.1", load: "rpc-json", servers: ["ours", "fastify", "connect-node-h1"] },
] as const;

const method = ProgressService.method.getProgress;
const request = create(method.input, { clientKrn: "krn:acme:client:store-17", filename: "orders.csv" });

const callOf = (kind: MeasuredCall["kind"]): MeasuredCall => ({
  kind,
  path: `/${ProgressService.typeName}/${method.name}`,
  body:
    kind === "rpc-grpc" ? toBinary(method.input, request) : Buffer.from(toJsonString(method.input, request)),
});

export async function rpcBench({ seconds, rounds, profile }: RpcBenchOptions): Promise<BenchResult> {
  await using load = startLoadProcess();
  const rows: string[][] = [];
  const figures: Record<string, unknown> = {};
  const comparisons: Comparison[] = [];
  for (const { title, load: kind, servers } of contests) {
    await using started = new AsyncDisposableStack();
    const running = new Map<string, RpcServer>();
    for (const name of servers) {
      const options = profile && name === "ours" ? profilableOptions : [];
      running.set(name, started.use(await startRpcServer(name, options)));
    }
    const measured = new Map<string, CallRate[]>(servers.map((name) => [name, []]));
    for (let round = -1; round < rounds; round++) {
      for (const [name, server] of running) {
        const result = await measureCalls(load, server, callOf(kind), round < 0 ? 1 : seconds);
        if (round >= 0) measured.get(name)?.push(result);
      }
    }
    const ours = running.get("ours");
    if (profile && ours) {
      using profiler = await connectProfiler(ours.notices);
      await profiler.start();
      await measureCalls(load, ours, callOf(kind), 3);
      printSummary(`${title}, ours`, summarize(await profiler.stop(), 60));
    }
    const { rate: base, cpuRate: baseCpu } = ratesOf(measured.get("ours") ?? []);
    for (const [name, results] of measured) {
      const { rate, cpuRate } = ratesOf(results);
      if (name !== "ours") {
        comparisons.push({ what: `unary ${title}, calls/s`, peer: name, ours: base, theirs: rate });
        const what = `unary ${title}, calls/CPU s`;
        comparisons.push({ what, peer: name, ours: baseCpu, theirs: cpuRate });
      }
      figures[`${title}: ${name}`] = { rate, cpuRate, ours: base.median / rate.median };
      rows.push([
        `${title}: ${name}`,
        show(rate.median),
        `${show(rate.min)}–${show(rate.max)}`,
        show(cpuRate.median),
        (base.median / rate.median).toFixed(2),
        (baseCpu.median / cpuRate.median).toFixed(2),
      ]);
    }
  }
  return {
    name: "rpc",
    title: "A call that does nothing: ours with API key and validation, the others without",
    columns: ["", "calls/s", "spread", "calls/CPU s", "ours ÷ it", "by CPU"],
    rows,
    figures,
    comparisons,
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "4" },
      rounds: { type: "string", default: "5" },
      profile: { type: "boolean", default: false },
    },
  });
  const options = { seconds: Number(values.seconds), rounds: Number(values.rounds), profile: values.profile };
  printResult(await rpcBench(options));
}
