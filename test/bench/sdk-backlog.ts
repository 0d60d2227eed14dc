/**
 * What a gateway takes in memory when it begins with a large backlog in its spool, and while it delivers it.
 * node test/bench/sdk-backlog.ts [--megabytes n]
 */
import { execFile, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs, promisify } from "node:util";
import type * as Sdk from "../../sdk/src/index.ts";
import { printResult, show } from "./report.ts";
import { buildSdk, builtSdk } from "./sdk/build.ts";
import { benchEvent } from "./sdk/event.ts";
import { startSink } from "./sdk/processes.ts";

const pollMs = 20;
/** Where nobody listens. */
const nowhere = "http://127.0.0.1:9";
const maxBytes = 8 * 1024 ** 3;

interface Memory {
  readonly rss: number;
  /** On V8's heap and beside it. */
  readonly used: number;
}

interface Drained {
  readonly bare: Memory;
  readonly loaded: Memory;
  readonly started: Memory;
  readonly peak: Memory;
  readonly openMs: number;
  readonly seconds: number;
  readonly delivered: number;
}

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

/** Delivers it all; a program without TypeScript, which would be a third of the memory. */
const drain = `
  const memory = () => {
    const { rss, heapUsed, external } = process.memoryUsage();
    return { rss, used: heapUsed + external };
  };
  const [sdk, endpoint, directory] = process.argv.slice(1);
  gc();
  const bare = memory();
  const { createGateway } = await import(sdk);
  gc();
  const loaded = memory();
  const begun = performance.now();
  const spool = { directory, maxBytes: ${maxBytes}, sync: "none" };
  const gateway = createGateway({ endpoint, apiKey: "evp_bench", spool });
  const openMs = performance.now() - begun;
  const started = memory();
  let used = started.used;
  setInterval(() => {
    used = Math.max(used, memory().used);
  }, ${pollMs});
  const { accepted: delivered } = await gateway.flush();
  const rss = process.resourceUsage().maxRSS * 1024;
  const seconds = (performance.now() - begun) / 1000;
  console.log(JSON.stringify({ bare, loaded, started, peak: { rss, used }, openMs, seconds, delivered }));
  process.exit();`;

async function runDrain(directory: string, endpoint: string): Promise<Drained> {
  const args = ["--expose-gc", "--input-type=module", "--eval", drain, builtSdk, endpoint, directory];
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
    const { bare, openMs, seconds, delivered } = drained;
    const mb = (value: number) => show(value / 2 ** 20);
    const stages = ["bare", "loaded", "started", "peak"] as const;
    printResult({
      name: "sdk-backlog",
      title: `A spool of ${show(bytes / 1e6)} MB: MiB of the process, and over a bare Node's`,
      columns: ["", "RSS", "over bare", "heap and external", "over bare"],
      rows: stages.map((stage) => [
        stage,
        mb(drained[stage].rss),
        mb(drained[stage].rss - bare.rss),
        mb(drained[stage].used),
        mb(drained[stage].used - bare.used),
      ]),
      notes: [
        `${delivered} of ${persisted} delivered in ${show(seconds)} s; the gateway was there after ${show(openMs)} ms.`,
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
