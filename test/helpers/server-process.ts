import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Settings } from "../../server/src/config/setting-names.ts";

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
  /** What it printed for people. */
  stdout(): string;
  /** The last lines of its log. */
  log(): string;
  /** Settles with its exit code when it has ended; null where a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Kills it and waits for its end. */
  kill(): Promise<void>;
  /** Drains it as an operator does, and fails when that does not end well. */
  stop(): Promise<void>;
}

/**
 * Starts `main.ts` with these settings alone, on loopback and a free port unless they say otherwise, and waits until it
 * serves. Rejects with what it said when it ends before. It never outlives this process.
 *
 * With a LOG_LEVEL above info, PORT must be given.
 */
export async function startServerProcess(
  settings: Settings,
  { nodeOptions = [] }: { nodeOptions?: readonly string[] } = {},
): Promise<ServerProcess> {
  const started = performance.now();
  const child = spawn(process.execPath, [...nodeOptions, main], {
    env: { PATH: process.env.PATH, PORT: "0", HOST: "127.0.0.1", ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  endWithThisProcess(child);
  let stdout = "";
  const tail: string[] = [];
  const notices: string[] = [];
  const exited = once(child, "close");
  const serving = Promise.withResolvers<string>();
  createInterface({ input: child.stderr as Readable }).on("line", (line) => {
    tail.push(line);
    if (tail.length > logTailLines) tail.shift();
    if (!line.startsWith("{")) notices.push(line);
    const url = /"url":"([^"]+)".*"msg":"serving"/.exec(line)?.[1];
    if (url) serving.resolve(url);
  });
  const port = settings.PORT;
  if (port) void untilReady(`http://127.0.0.1:${port}`, child).then(serving.resolve);
  // The greeting comes when the demo tenant is ready; on an outside database there is none.
  const greeted = settings.DATABASE_URL ? undefined : once(child.stdout as Readable, "data");
  child.stdout?.on("data", (text) => {
    stdout += text;
  });
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {}); // once it serves, its end is not awaited here
  const fail = (reason: string) => failed.reject(new Error(`the server ${reason}:\n${tail.join("\n")}`));
  const timer = setTimeout(() => fail("did not start in time"), startTimeoutMs);
  void exited.then(() => fail("ended before it served"));
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
      stdout: () => stdout,
      log: () => tail.join("\n"),
      ended: exited.then(([code]) => code),
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
    // Whoever has the port may be another server, which does not answer.
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(1_000) }).catch(
      () => undefined,
    );
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
