/** The process: settings, signals, exit codes. No other file touches `process`, but for what is passed on from here. */
import cluster from "node:cluster";
import { parseArgs } from "node:util";
import v8 from "node:v8";
import { type Logger, pino } from "pino";
import { type Config, envToConfig } from "./config/config.ts";
import { readEnv, type Settings } from "./config/setting-names.ts";
import { writeServerFile } from "./db/embedded.ts";
import { greeting } from "./greeting.ts";
import { runMember } from "./processes/member.ts";
import { startPrimary } from "./processes/primary.ts";
import { type Running, startAlone } from "./running.ts";

const startedAt = performance.now();

/**
 * Buffers of requests live for milliseconds. V8 answers each 64 MB of them with a collection of the whole heap, which took a
 * third of the CPU under load, unless they count towards the limit of the heap, which grows with what is in use.
 */
const boundBuffersByHeap = "--external-memory-accounted-in-global-limit";
/** Older ones do not know the flag and say so. */
const firstV8WithFlag = 14;
/** A server that cannot go on has this long to tell those who are connected. */
const lastWordsMs = 2_000;

async function main(): Promise<void> {
  if (Number.parseInt(process.versions.v8, 10) >= firstV8WithFlag) v8.setFlagsFromString(boundBuffersByHeap);
  const config = envToConfig({ ...readEnv(process.env), ...readFlags(process.argv.slice(2)) });
  const base = cluster.worker ? { process: cluster.worker.id } : null;
  const logger: Logger = pino({ level: config.logLevel, base }, pino.destination({ dest: 2, sync: false }));
  if (cluster.isWorker) {
    await member(config, logger);
    return;
  }
  let running: Running | undefined;
  let draining = false;
  const stop = (signal: NodeJS.Signals) => {
    if (!running) process.exit(1);
    if (draining) {
      logger.warn({ signal }, "second signal: closing at once");
      void running.destroy().finally(() => process.exit(1));
      return;
    }
    logger.info({ signal }, "draining");
    draining = true;
    running.drain().then(
      () => process.exit(0),
      (err: unknown) => {
        logger.fatal({ err }, "drain failed");
        process.exit(1);
      },
    );
  };
  running = await (config.processes > 1 ? startPrimary : startAlone)(config, logger);
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  const { url, dataDir, demo } = running;
  void running.failed.then((reason) => {
    if (draining) return;
    logger.fatal({ reason }, "stopping");
    // Whoever is connected is told to come back, instead of a connection that ends without a word.
    draining = true;
    setTimeout(() => void running.destroy().finally(() => process.exit(1)), lastWordsMs);
    void running.drain().finally(() => process.exit(1));
  });
  if (dataDir) writeServerFile(dataDir, { pid: process.pid, endpoint: url });
  logger.info({ url, startedInMs: Math.round(performance.now() - startedAt) }, "serving");
  if (dataDir) process.stdout.write(`\n${greeting(url, dataDir, demo)}\n`);
}

/** Options of the command line win over the environment. */
function readFlags(args: readonly string[]): Settings {
  const { values } = parseArgs({
    args: [...args],
    options: { role: { type: "string" }, processes: { type: "string" } },
  });
  return {
    ...(values.role !== undefined && { PULSEWIRE_ROLE: values.role }),
    ...(values.processes !== undefined && { PULSEWIRE_PROCESSES: values.processes }),
  };
}

/** A member is told by the primary when to end. What a terminal or an operator sends to it alone only drains it. */
async function member(config: Config, logger: Logger): Promise<void> {
  process.on("SIGINT", () => {});
  const drain = new AbortController();
  process.on("SIGTERM", () => drain.abort());
  await runMember(config, logger, explain, drain.signal);
  process.exit(0);
}

/** What a person can act on is said in a sentence; what looks like our own mistake, with its stack. */
function explain(error: unknown): string {
  const { code, address, port, message, stack } = error as NodeJS.ErrnoException & {
    address?: string;
    port?: number;
  };
  if (code === "EADDRINUSE")
    return `${address}:${port} is in use; set PORT to another number, or 0 for a free one`;
  if (code === "EACCES" && port !== undefined)
    return `no permission to listen on port ${port}; set PORT above 1023`;
  if (code === "ECONNREFUSED" || code === "ENOTFOUND")
    return `DATABASE_URL: the database cannot be reached (${message})`;
  const ours = error instanceof TypeError || error instanceof ReferenceError || !(error instanceof Error);
  return ours ? (stack ?? String(error)) : message;
}

main().catch((error: unknown) => {
  process.stderr.write(`pulsewire: ${explain(error)}\n`);
  process.exit(1);
});
