/**
 * One event by REST, Connect JSON and gRPC, with API key and validation, against Fastify with the same body and answer and neither.
 * The event is taken and forgotten: what is compared is the way to the handler and back.
 * node test/bench/rest.ts [--seconds n] [--rounds n] [--profile]
 */
import { parseArgs } from "node:util";
import { fromJson, toBinary } from "@bufbuild/protobuf";
import { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { statOf } from "../faults/processes.ts";
import type { LoadCommand } from "./load.ts";
import { startLoadProcess } from "./load-process.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import { type BenchResult, type Comparison, printResult, show, spreadOf } from "./report.ts";
import { type RpcServer, startRpcServer } from "./rpc-process.ts";

const callers = 64;
const connections = 8;
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
  const measured = new Map(names.map((name) => [name, [] as { rate: number; cpuRate: number }[]]));

  const measure = async (name: Way, seconds: number) => {
    const { server: kindOfServer, kind, path, body } = ways[name];
    const server = servers[kindOfServer] as RpcServer;
    const headers: Record<string, string> = server.apiKey ? { "x-api-key": server.apiKey } : {};
    const command: LoadCommand = {
      kind,
      seconds,
      url: server.url,
      path,
      headers,
      body: body.toString("base64"),
      callers,
      connections,
    };
    const cpu = () => statOf(server.pid)?.cpu ?? Number.NaN;
    let before = 0;
    let after = 0;
    const round = await load.run(
      command,
      () => {
        before = cpu();
      },
      () => {
        after = cpu();
      },
    );
    return { rate: round.calls / round.seconds, cpuRate: round.calls / (after - before) };
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
  const figures = Object.fromEntries(
    names.map((name) => {
      const results = measured.get(name) ?? [];
      return [
        name,
        {
          rate: spreadOf(results.map(({ rate }) => rate)),
          cpuRate: spreadOf(results.map(({ cpuRate }) => cpuRate)),
        },
      ];
    }),
  );
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
