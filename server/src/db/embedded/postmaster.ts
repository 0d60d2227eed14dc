import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Account } from "./account.ts";
import { cleanEnvironment } from "./cluster.ts";
import { EmbeddedDatabaseError } from "./errors.ts";

/** Connections PostgreSQL accepts; the pools of all processes together must stay below. */
export const maxConnections = 100;

const logTailLines = 40;
const startTimeoutMs = 60_000; // recovery after a crash may have to replay max_wal_size
const fastShutdownMs = 15_000;
const immediateShutdownMs = 5_000;

/** How PostgreSQL ended. `expected` is false when nobody asked it to. */
export interface Exit {
  readonly expected: boolean;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly log: string;
}

/** A running PostgreSQL. */
export interface Postmaster {
  readonly pid: number;
  readonly exited: Promise<Exit>;
  stop(): Promise<void>;
}

export interface PostmasterOptions {
  readonly postgres: string;
  readonly pgdata: string;
  readonly socketFolder: string;
  readonly account: Account;
  readonly logger: Logger;
  readonly settings: Readonly<Record<string, string | number>>;
  readonly signal?: AbortSignal | undefined;
}

const defaultSettings = {
  listen_addresses: "",
  unix_socket_permissions: "0700",
  max_connections: maxConnections,
  shared_buffers: "256MB",
  wal_level: "replica",
  max_wal_size: "2GB",
  checkpoint_completion_target: 0.9,
  synchronous_commit: "on",
  // Short statements only: compiling them costs more than running them.
  jit: "off",
  timezone: "UTC",
  log_timezone: "UTC",
  lc_messages: "C",
  log_destination: "stderr",
  logging_collector: "off",
  // DETAIL lines hold the values of rows.
  log_error_verbosity: "terse",
  cluster_name: "pulsewire",
};

/**
 * The shell becomes PostgreSQL. A watcher, detached so that PostgreSQL does not see it as a child, blocks on fd 3:
 * the end of the pipe means that the server has died, even by SIGKILL, and asks PostgreSQL for a fast shutdown.
 * A line means that PostgreSQL has ended by itself, and its pid may belong to another by now.
 */
const launcher = `( ( read -r line <&3 || kill -INT $$ ) >/dev/null 2>&1 & )
exec "$0" "$@" 3<&-`;

/** Starts PostgreSQL and waits until it takes connections. Throws `start_failed` with the end of its log if it does not. */
export async function startPostmaster(options: PostmasterOptions): Promise<Postmaster> {
  const settings = { ...defaultSettings, unix_socket_directories: options.socketFolder, ...options.settings };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const [command, args] = options.account.wrap("/bin/sh", [
    "-c",
    launcher,
    options.postgres,
    "-D",
    options.pgdata,
    ...flags,
  ]);
  const child = spawn(command, args, {
    env: cleanEnvironment,
    cwd: "/",
    // A session of its own: Ctrl-C reaches the server alone, which drains before it stops the database.
    detached: true,
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  let stopping = false;
  const log = captureLog(child.stderr as Readable, options.logger);
  const exited = whenExited(child, () => ({ expected: stopping, log: log.tail() }));

  const stop = async () => {
    stopping = true;
    for (const [signal, patience] of [
      ["SIGINT", fastShutdownMs],
      ["SIGQUIT", immediateShutdownMs],
    ] as const) {
      child.kill(signal);
      if (await settlesWithin(exited, patience)) return;
      options.logger.warn({ signal }, "PostgreSQL did not stop in time");
    }
    child.kill("SIGKILL");
    await exited;
  };

  const outcome = await firstOf(log.ready, exited, startTimeoutMs, options.signal);
  if (outcome === "ready") return { pid: child.pid as number, exited, stop };
  await stop();
  options.signal?.throwIfAborted();
  throw new EmbeddedDatabaseError(
    "start_failed",
    `The embedded PostgreSQL did not start${outcome === "timeout" ? " in time" : ""}. Its last words:\n${log.tail()}`,
  );
}

function captureLog(stream: Readable, logger: Logger): { ready: Promise<void>; tail(): string } {
  const lines: string[] = [];
  const ready = Promise.withResolvers<void>();
  createInterface({ input: stream }).on("line", (line) => {
    lines.push(line);
    if (lines.length > logTailLines) lines.shift();
    if (line.includes("database system is ready to accept connections")) ready.resolve();
    logger.debug({ postgres: line }, "postgres");
  });
  return { ready: ready.promise, tail: () => lines.join("\n") };
}

function whenExited(child: ChildProcess, context: () => { expected: boolean; log: string }): Promise<Exit> {
  const lifeline = child.stdio[3] as Writable;
  lifeline.on("error", () => {});
  return new Promise((resolve) => {
    child.on("error", (error) => {
      resolve({ ...context(), code: null, signal: null, log: error.message });
    });
    child.on("exit", async (code, signal) => {
      lifeline.end("exited\n");
      // Its children may hold stderr a little longer than it lives; without them the log is complete.
      await settlesWithin(new Promise((closed) => child.on("close", closed)), 500);
      resolve({ ...context(), code, signal });
    });
  });
}

async function firstOf(
  ready: Promise<void>,
  exited: Promise<Exit>,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<"ready" | "exited" | "timeout" | "aborted"> {
  const over = new AbortController();
  try {
    return await Promise.race([
      ready.then(() => "ready" as const),
      exited.then(() => "exited" as const),
      sleep(timeoutMs, "timeout" as const, { signal: over.signal }),
      ...(signal ? [whenAborted(signal, over.signal)] : []),
    ]);
  } finally {
    over.abort();
  }
}

function whenAborted(signal: AbortSignal, until: AbortSignal): Promise<"aborted"> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("aborted");
    signal.addEventListener("abort", () => resolve("aborted"), { signal: until });
  });
}

async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const over = new AbortController();
  const late = sleep(ms, false, { signal: over.signal }).catch(() => false);
  return Promise.race([promise.then(() => true), late]).finally(() => over.abort());
}
