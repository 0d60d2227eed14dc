/** Functions on Docker against plain `docker run`: how long until the first line and the result, and how fast a log is read. */
import { spawn } from "node:child_process";
import { once } from "node:events";

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { FunctionsService } from "../../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { InvocationPhase } from "../../server/src/gen/pulsewire/functions/v1/invocation_pb.js";
import { postmasterOf } from "../faults/processes.ts";
import { type DockerEngine, startDockerEngine, testImage } from "../helpers/docker-engine.ts";
import { grpcSession } from "../helpers/server.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { cpuBetween, readCpu } from "./cpu.ts";
import { type BenchResult, printResult, show, spreadOf } from "./report.ts";

type Fns = Client<typeof FunctionsService>;

/** Milliseconds from the call. */
interface Timing {
  readonly firstLine: number;
  readonly result: number;
}

const command = ["/bin/sh", "-c", "echo first; echo done"];
const callsARound = 4;

/** Needs root, docker.io and busybox-static. */
export async function functionsBench({
  seconds,
  rounds,
}: {
  seconds: number;
  rounds: number;
}): Promise<BenchResult> {
  const folder = await mkdtemp(path.join(tmpdir(), "pulsewire-bench-functions-"));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  const engine = undo.use(await startDockerEngine());
  const server = undo.use(
    await startServerProcess({
      PULSEWIRE_DATA_DIR: folder,
      PULSEWIRE_FUNCTIONS_RUNTIME: "docker",
      PULSEWIRE_DOCKER_HOST: engine.host,
    }),
  );
  using session = grpcSession(server.url, { "x-api-key": readDemoKey(folder) });
  const fns = createClient(FunctionsService, session.transport);
  await fns.createFunction({ name: "cold", image: testImage, replicas: 0, command });
  await fns.createFunction({ name: "warm", image: testImage, replicas: 0, command, warmPoolSize: 2 });

  const cases: Record<string, () => Promise<Timing>> = {
    "docker run": () => dockerRun(engine),
    invoke: () => invoke(fns, "cold"),
    "invoke, warm pool": async () => {
      await poolIsFull(engine);
      return await invoke(fns, "warm");
    },
  };
  const timings: Record<string, Timing[]> = {};
  for (const [name, run] of Object.entries(cases)) {
    await run();
    timings[name] = [];
  }
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(cases)) {
      for (let call = 0; call < callsARound; call++) timings[name]?.push(await run());
    }
  }
  const postmaster = postmasterOf(folder);
  const lines = Math.round(100_000 * Math.min(seconds, 10));
  await fns.createFunction({
    name: "talker",
    image: testImage,
    replicas: 0,
    command: ["/bin/seq", "1", String(lines)],
  });
  const before = readCpu(server.pid, postmaster);
  const log = await readLog(fns, lines);
  const cpu = cpuBetween(before, readCpu(server.pid, postmaster));
  const plain = await plainLog(engine, lines);
  await server.stop();

  const base = spreadOf((timings["docker run"] ?? []).map(({ result }) => result)).median;
  const baseLine = spreadOf((timings["docker run"] ?? []).map(({ firstLine }) => firstLine)).median;
  const rows = Object.entries(timings).map(([name, all]) => {
    const first = spreadOf(all.map(({ firstLine }) => firstLine));
    const result = spreadOf(all.map((timing) => timing.result));
    return [
      name,
      `${show(first.median)} (${show(first.min)}–${show(first.max)})`,
      show(first.median / baseLine),
      `${show(result.median)} (${show(result.min)}–${show(result.max)})`,
      show(result.median / base),
    ];
  });
  const perSecond = (lines / log.ms) * 1000;
  return {
    name: "functions",
    title: `Functions on Docker, ms from the call, median (range) of ${rounds * callsARound}`,
    columns: ["", "first line", "ratio", "result", "ratio"],
    rows,
    notes: [
      `log: ${lines.toLocaleString("en-US")} lines of a run read, stored and followed at ${show(perSecond)} lines/s; ` +
        `CPU a million lines: server ${show((cpu.server / lines) * 1e6)} s, PostgreSQL ${show((cpu.postgres / lines) * 1e6)} s; ` +
        `docker run of the same, followed: ${show((lines / plain) * 1000)} lines/s (${show(plain / log.ms)} of the time)`,
    ],
    comparisons: Object.entries(timings).flatMap(([name, all]) =>
      name === "docker run"
        ? []
        : (["firstLine", "result"] as const).map((key) => ({
            what: `functions, ${name}, ms to the ${key === "result" ? "result" : "first line"} (less is better)`,
            peer: "docker run",
            ours: spreadOf(all.map((each) => each[key])),
            theirs: spreadOf((timings["docker run"] ?? []).map((each) => each[key])),
          })),
    ),
    figures: { timings, log: { lines, ms: log.ms, cpu, plainMs: plain } },
  };
}

async function dockerRun({ host }: DockerEngine): Promise<Timing> {
  const started = performance.now();
  const child = spawn("docker", ["-H", host, "run", "--rm", testImage, ...command], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  await once(child.stdout, "data");
  const firstLine = performance.now() - started;
  await once(child, "exit");
  return { firstLine, result: performance.now() - started };
}

async function invoke(fns: Fns, name: string): Promise<Timing> {
  const started = performance.now();
  const { invocation } = await fns.invokeFunction({ name });
  const invocationId = invocation?.id ?? "";
  const waiting = fns.waitInvocation({ invocationId }).then((ended) => {
    if (ended.invocation?.phase !== InvocationPhase.SUCCEEDED) throw new Error(ended.invocation?.reason);
    return performance.now() - started;
  });
  let firstLine = Number.NaN;
  for await (const message of fns.streamLogs({ invocationId, follow: true, tail: -1 })) {
    if (message.lines.length === 0) continue;
    firstLine = performance.now() - started;
    break;
  }
  return { firstLine, result: await waiting };
}

/** Until the pool has its two containers again, which nobody waits for in earnest. */
async function poolIsFull({ docker }: DockerEngine): Promise<void> {
  const filters = { label: ["io.pulsewire.kind=warm"], status: ["created"] };
  for (const until = Date.now() + 10_000; Date.now() < until; await sleep(20)) {
    if ((await docker.listContainers({ all: true, filters })).length >= 2) return;
  }
  throw new Error("the warm pool was not filled");
}

async function readLog(fns: Fns, lines: number): Promise<{ ms: number }> {
  const started = performance.now();
  const { invocation } = await fns.invokeFunction({ name: "talker" });
  let count = 0;
  for await (const message of fns.streamLogs({
    invocationId: invocation?.id ?? "",
    follow: true,
    tail: -1,
  })) {
    count += message.lines.length;
  }
  if (count !== lines) throw new Error(`${count} lines instead of ${lines}`);
  return { ms: performance.now() - started };
}

async function plainLog({ host }: DockerEngine, lines: number): Promise<number> {
  const started = performance.now();
  const child = spawn("docker", ["-H", host, "run", "--rm", testImage, "/bin/seq", "1", String(lines)], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  child.stdout.resume();
  await once(child, "exit");
  return performance.now() - started;
}

if (import.meta.main) printResult(await functionsBench({ seconds: 5, rounds: 5 }));
