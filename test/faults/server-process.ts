import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

const main = path.resolve(import.meta.dirname, "../../server/src/main.ts");
const startTimeoutMs = 90_000;
const logTailLines = 30;
const readyPollMs = 50;

/** The real server as a process of its own. */
export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
  /** From the start of the process until it served. */
  readonly startedInMs: number;
  /** Lines of stderr that are no log lines of JSON, such as the inspector's. */
  readonly notices: readonly string[];
  /** Kills it and waits for its end. */
  kill(): Promise<void>;
  /** Drains it as an operator does, and fails when that does not end well. */
  stop(): Promise<void>;
}

export interface ServerProcessOptions {
  readonly dataDir: string;
  /** Settings besides the data folder and a free port. With a LOG_LEVEL above info, PORT must be given. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Options of Node itself. */
  readonly nodeOptions?: readonly string[];
}

/** Starts the server and waits until it serves. It never outlives this process. */
export async function startServerProcess(options: ServerProcessOptions): Promise<ServerProcess> {
  const started = performance.now();
  const child = spawn(process.execPath, [...(options.nodeOptions ?? []), main], {
    env: {
      PATH: process.env.PATH,
      PORT: "0",
      HOST: "127.0.0.1",
      PULSEWIRE_DATA_DIR: options.dataDir,
      ...options.settings,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  endWithThisProcess(child);
  const tail: string[] = [];
  const notices: string[] = [];
  const exited = once(child, "exit");
  const serving = Promise.withResolvers<string>();
  createInterface({ input: child.stderr as Readable }).on("line", (line) => {
    tail.push(line);
    if (tail.length > logTailLines) tail.shift();
    if (!line.startsWith("{")) notices.push(line);
    const url = /"url":"([^"]+)".*"msg":"serving"/.exec(line)?.[1];
    if (url) serving.resolve(url);
  });
  const port = options.settings?.PORT;
  if (port) void untilReady(`http://127.0.0.1:${port}`, child).then(serving.resolve);
  // The greeting comes when the demo tenant is ready; on an outside database there is none.
  const greeted = options.settings?.DATABASE_URL ? undefined : once(child.stdout as Readable, "data");
  child.stdout?.resume();
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {}); // once it serves, its end is not awaited here
  const fail = (reason: string) => failed.reject(new Error(`the server ${reason}:\n${tail.join("\n")}`));
  const timer = setTimeout(() => fail("did not start in time"), startTimeoutMs);
  child.once("exit", () => fail("ended before it served"));
  child.once("error", failed.reject);
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await exited;
  };
  try {
    const [url] = await Promise.race([Promise.all([serving.promise, greeted]), failed.promise]);
    return {
      pid: child.pid as number,
      url,
      startedInMs: performance.now() - started,
      notices,
      kill,
      async stop() {
        child.kill("SIGTERM");
        await exited;
        if (child.exitCode !== 0) throw new Error(`the server did not drain well:\n${tail.join("\n")}`);
      },
      [Symbol.asyncDispose]: kill,
    };
  } catch (error) {
    await kill();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Asks a port that is known until the server is ready. */
async function untilReady(url: string, child: ChildProcess): Promise<string> {
  while (child.exitCode === null && child.signalCode === null) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) break;
    await sleep(readyPollMs);
  }
  return url;
}

/** The key of the demo tenant of an embedded database. */
export function readDemoKey(dataDir: string): string {
  return JSON.parse(readFileSync(path.join(dataDir, "demo.json"), "utf8")).apiKey;
}

const children = new Set<ChildProcess>();
let watching = false;

/** Kills a child when this process ends in whatever way it can notice. */
export function endWithThisProcess(child: ChildProcess): void {
  children.add(child);
  child.once("exit", () => children.delete(child));
  if (watching) return;
  watching = true;
  process.once("exit", () => {
    for (const each of children) each.kill("SIGKILL");
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));
}
