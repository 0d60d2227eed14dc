/**
 * One stream, many watchers: the same messages to all, pushed as fast as they are taken. Ours behind all interceptors, over
 * gRPC and over Connect, against server-sent events by hand and against connect-node.
 * node test/bench/fan-out.ts [--seconds n] [--rounds n] [--watchers 1000,5000] [--profile]
 */
import { parseArgs } from "node:util";
import { startLoadProcess } from "./load-process.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import { type BenchResult, type Comparison, printResult, show, spreadOf } from "./report.ts";
import { type RpcServer, startRpcServer } from "./rpc-process.ts";
import type { WatchOptions } from "./watch-calls.ts";

export interface FanOutOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly watchers?: readonly number[];
  readonly profile?: boolean;
}

interface Contender {
  readonly title: string;
  readonly server: string;
  readonly protocol: WatchOptions["protocol"];
}

/** The first is what the others are measured by. */
const contenders: readonly Contender[] = [
  { title: "server-sent events, node:http", server: "sse", protocol: "sse" },
  { title: "ours, Connect over HTTP/1.1", server: "ours", protocol: "connect" },
  { title: "ours, gRPC", server: "ours", protocol: "grpc" },
  { title: "connect-node, Connect over HTTP/1.1", server: "connect-node-h1", protocol: "connect" },
  { title: "connect-node, gRPC", server: "connect-node", protocol: "grpc" },
];

interface Measured {
  readonly perSecond: number;
  readonly perCpuSecond: number;
  readonly bytesEach: number;
}

export async function fanOutBench(options: FanOutOptions): Promise<BenchResult> {
  const { seconds, rounds, watchers: sizes = [1_000, 5_000], profile } = options;
  const rows: string[][] = [];
  const figures: Record<string, unknown> = {};
  const comparisons: Comparison[] = [];
  for (const watchers of sizes) {
    const measured = new Map<string, Measured[]>(contenders.map(({ title }) => [title, []]));
    for (let round = 0; round < rounds; round++) {
      for (const contender of contenders) {
        const result = await measure(contender, watchers, seconds, profile === true && round === 0);
        measured.get(contender.title)?.push(result);
      }
    }
    const medians = (title: string, key: keyof Measured) =>
      spreadOf((measured.get(title) ?? []).map((each) => each[key]));
    const base = contenders[0]?.title ?? "";
    for (const ours of contenders.filter(({ server }) => server === "ours")) {
      for (const peer of contenders.filter(({ server }) => server !== "ours")) {
        if (peer.protocol !== "sse" && peer.protocol !== ours.protocol) continue;
        const compare = (what: string, key: keyof Measured) =>
          comparisons.push({
            what: `${watchers} watchers, ${ours.protocol}: ${what}`,
            peer: peer.server,
            ours: medians(ours.title, key),
            theirs: medians(peer.title, key),
          });
        compare("messages/s", "perSecond");
        compare("messages/CPU s", "perCpuSecond");
        compare("bytes each", "bytesEach");
      }
    }
    for (const { title } of contenders) {
      const rate = medians(title, "perSecond");
      const cpuRate = medians(title, "perCpuSecond");
      const memory = medians(title, "bytesEach");
      figures[`${watchers} watchers: ${title}`] = { rate, cpuRate, memory };
      rows.push([
        `${watchers.toLocaleString("en-US")} watchers: ${title}`,
        show(rate.median),
        `${show(rate.min)}–${show(rate.max)}`,
        show(cpuRate.median),
        (rate.median / medians(base, "perSecond").median).toFixed(2),
        (memory.median / 1_000).toFixed(1),
        (memory.median / medians(base, "bytesEach").median).toFixed(2),
      ]);
    }
  }
  return {
    name: "fan-out",
    title: "The same messages to many watchers",
    columns: ["", "messages/s", "spread", "messages/CPU s", "÷ SSE", "kB a watcher", "÷ SSE"],
    rows,
    figures,
    comparisons,
  };
}

async function measure(
  { title, server: kind, protocol }: Contender,
  watchers: number,
  seconds: number,
  profile: boolean,
): Promise<Measured> {
  await using server = await startRpcServer(kind, ["--expose-gc", ...(profile ? profilableOptions : [])]);
  await using load = startLoadProcess();
  const watch = (count: number) =>
    ({
      kind: "watch",
      seconds: seconds + 0.5,
      url: server.url,
      protocol,
      headers: server.apiKey ? { "x-api-key": server.apiKey } : {},
      watchers: count,
    }) as const;
  // Warm, so that what is compiled and cached does not count as memory of watchers.
  await load.run({ ...watch(100), seconds: 1 }, () => void server.ask({ kind: "publish", seconds: 0.5 }));
  await server.untilAlone();
  const empty = await memoryOf(server);
  let full = empty;
  let published: Promise<{ cpu: number; sent: number }> | undefined;
  using profiler = profile ? await connectProfiler(server.notices) : undefined;
  const round = await load.run(watch(watchers), async () => {
    full = await memoryOf(server);
    if (full.watchers !== watchers) throw new Error(`${full.watchers} of ${watchers} watch`);
    await profiler?.start();
    published = server.ask({ kind: "publish", seconds }) as Promise<{ cpu: number; sent: number }>;
  });
  if (profiler) printSummary(title, summarize(await profiler.stop(), 30));
  const { cpu } = (await published) ?? { cpu: Number.NaN };
  return {
    perSecond: round.events / seconds,
    perCpuSecond: round.events / cpu,
    bytesEach: (full.used - empty.used) / watchers,
  };
}

async function memoryOf(server: RpcServer) {
  const answer = await server.ask({ kind: "memory" });
  if (answer.kind !== "memory") throw new Error("the server is confused");
  return answer;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "3" },
      rounds: { type: "string", default: "3" },
      watchers: { type: "string", default: "1000,5000" },
      profile: { type: "boolean", default: false },
    },
  });
  const watchers = values.watchers.split(",").map(Number);
  const options = { seconds: Number(values.seconds), rounds: Number(values.rounds), watchers };
  printResult(await fanOutBench({ ...options, profile: values.profile }));
}
