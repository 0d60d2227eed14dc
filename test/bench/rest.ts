/**
 * One event by REST, Connect JSON and gRPC, with API key and validation, against Fastify with the same body and answer and neither.
 * The event is taken and forgotten: what is compared is the way to the handler and back.
 * node test/bench/rest.ts [--seconds n] [--rounds n] [--profile]
 */
import { parseArgs } from "node:util";
import { fromJson, toBinary } from "@bufbuild/protobuf";
import { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { startLoadProcess } from "./load-process.ts";
import { type CallRate, measureCalls, ratesOf } from "./measure-calls.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import { type BenchResult, type Comparison, printResult, show, spreadOf } from "./report.ts";
import { type RpcServer, startRpcServer } from "./rpc-process.ts";

const method = IngestionService.method.ingestEvent;
const event = {
  eventId: "evt_1",
  eventType: "page_view",
  title: "A page was viewed",
  userId: "user_17",
  sessionId: "session_4711",
  timestamp: "2024-01-30T12:34:56Z",
  priority: 1,
  metrics: { response_time_ms: 150.5 },
  payload: { page: "/pricing", referrer: "google.com", screen: { width: 1920, height: 1080 } },
};
const rpcPath = `/${IngestionService.typeName}/${method.name}`;
const json = (value: object) => Buffer.from(JSON.stringify(value));

/** What is compared: which server, over which wire, with what. */
const ways = {
  REST: { server: "ours", kind: "rpc-json", path: "/v1/events", body: json(event) },
  "Connect JSON": { server: "ours", kind: "rpc-json", path: rpcPath, body: json({ event }) },
  gRPC: {
    server: "ours",
    kind: "rpc-grpc",
    path: rpcPath,
    body: Buffer.from(toBinary(method.input, fromJson(method.input, { event }))),
  },
  Fastify: { server: "fastify", kind: "rpc-json", path: "/v1/events", body: json(event) },
} as const;
type Way = keyof typeof ways;

export async function restBench(options: {
  seconds: number;
  rounds: number;
  profile?: boolean;
}): Promise<BenchResult> {
  await using load = startLoadProcess();
  await using ours = await startRpcServer("ours", options.profile ? profilableOptions : []);
  await using fastify = await startRpcServer("fastify");
  const servers: Record<string, RpcServer> = { ours, fastify };
  const names = Object.keys(ways) as Way[];
  const measured = new Map(names.map((name) => [name, [] as CallRate[]]));

  const measure = async (name: Way, seconds: number) => {
    const { server: kindOfServer, ...call } = ways[name];
    const server = servers[kindOfServer] as RpcServer;
    return await measureCalls(load, server, call, seconds);
  };

  for (let round = -1; round < options.rounds; round++) {
    for (const name of names) {
      const result = await measure(name, round < 0 ? 1 : options.seconds);
      if (round >= 0) measured.get(name)?.push(result);
    }
  }
  if (options.profile) {
    using profiler = await connectProfiler(ours.notices);
    await profiler.start();
    await measure("REST", 3);
    printSummary("REST", summarize(await profiler.stop(), 60));
  }
  const figures = Object.fromEntries(names.map((name) => [name, ratesOf(measured.get(name) ?? [])]));
  const fastifyRate = figures.Fastify?.rate ?? spreadOf([]);
  const peer = fastifyRate.median;
  const comparisons: Comparison[] = Object.entries(figures)
    .filter(([name]) => name !== "Fastify")
    .map(([name, { rate }]) => ({
      what: `one event, ${name}, calls/s`,
      peer: "fastify",
      ours: rate,
      theirs: fastifyRate,
    }));
  return {
    name: "rest",
    title: "One event, taken and forgotten: ours with API key and validation, Fastify with its schema alone",
    columns: ["", "calls/s", "spread", "calls/CPU s", "÷ Fastify"],
    rows: Object.entries(figures).map(([name, { rate, cpuRate }]) => [
      name,
      show(rate.median),
      `${show(rate.min)}–${show(rate.max)}`,
      show(cpuRate.median),
      `${(rate.median / peer).toFixed(2)}×`,
    ]),
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
  printResult(
    await restBench({
      seconds: Number(values.seconds),
      rounds: Number(values.rounds),
      profile: values.profile,
    }),
  );
}
