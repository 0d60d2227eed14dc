/**
 * What a gateway takes in memory when it begins with a large backlog in its spool, and while it delivers it.
 * node test/bench/sdk-backlog.ts [--megabytes n]
 */
import { execFile, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs, promisify } from "node:util";
import { transform } from "esbuild";
import type * as Sdk from "../../sdk/src/index.ts";
import { printResult, show } from "./report.ts";
import { buildSdk, builtSdk } from "./sdk/build.ts";
import type { Drained } from "./sdk/drain.ts";
import { benchEvent } from "./sdk/event.ts";
import { startSink } from "./sdk/processes.ts";

/** Where nobody listens. */
const nowhere = "http://127.0.0.1:9";
const maxBytes = 8 * 1024 ** 3;

/** Queues events while there is no server. */
async function fill(directory: string, bytes: number): Promise<number> {
  const { createGateway } = (await import(builtSdk)) as typeof Sdk;
  const spool = { directory, maxBytes, sync: "none" as const };
  const gateway = createGateway({ endpoint: nowhere, apiKey: "evp_bench", spool });
  // About as much as one takes on the disk.
  const events = Math.ceil(bytes / 258);
  for (let index = 0; index < events; index++) {
    const { type, user, session, payload } = benchEvent(index);
    gateway.event({ eventType: type, userId: user, sessionId: session, payload });
    if (index % 1000 === 0) await new Promise(setImmediate);
  }
  const { persisted } = await gateway.close({ deadlineMs: 0 });
  return persisted;
}

async function runDrain(directory: string, endpoint: string): Promise<Drained> {
  const source = await readFile(path.join(import.meta.dirname, "sdk/drain.ts"), "utf8");
  const { code } = await transform(source, { loader: "ts", target: "esnext" });
  const program = ["--expose-gc", "--input-type=module", "--eval", code];
  const args = [...program, builtSdk, endpoint, directory, String(maxBytes)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return JSON.parse(stdout) as Drained;
}

/** In a process of its own. */
async function runFill(directory: string, bytes: number): Promise<number> {
  const child = fork(import.meta.filename, [directory, String(bytes)]);
  const [[persisted]] = await Promise.all([once(child, "message"), once(child, "exit")]);
  return persisted as number;
}

async function measure(bytes: number): Promise<void> {
  buildSdk();
  const directory = await mkdtemp(path.join(os.tmpdir(), "pulsewire-backlog-"));
  try {
    await using sink = await startSink();
    const persisted = await runFill(directory, bytes);
    const drained = await runDrain(directory, sink.grpcUrl);
    const { bare, started, openMs, seconds, cpuSeconds, delivered } = drained;
    const mb = (value: number) => show(value / 2 ** 20);
    const stages = ["bare", "loaded", "started", "peak"] as const;
    const parts = ["program", "young", "old", "malloc", "other", "used"] as const;
    printResult({
      name: "sdk-backlog",
      title: `A spool of ${show(bytes / 1e6)} MB: MiB of the process; over a bare Node's, over a gateway's that has just begun`,
      columns: [
        "",
        "RSS",
        "over bare",
        "over begun",
        "program",
        "young generation",
        "rest of the heap",
        "malloc",
        "other",
        "heap and external in use",
      ],
      rows: stages.map((stage) => [
        stage,
        mb(drained[stage].rss),
        mb(drained[stage].rss - bare.rss),
        mb(drained[stage].rss - started.rss),
        ...parts.map((part) => mb(drained[stage][part])),
      ]),
      notes: [
        `${delivered} of ${persisted} delivered in ${show(seconds)} s with ${show((cpuSeconds / delivered) * 1e6)} µs of CPU each; the gateway was there after ${show(openMs)} ms.`,
      ],
      figures: drained,
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

if (process.send) {
  const [directory = "", bytes] = process.argv.slice(2);
  process.send(await fill(directory, Number(bytes)), () => process.exit());
} else {
  const { values } = parseArgs({ options: { megabytes: { type: "string", default: "1000" } } });
  await measure(Number(values.megabytes) * 1e6);
}
