import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";

/** A real Redis on a free port of loopback, which keeps nothing. */
export interface TestRedis extends AsyncDisposable {
  readonly url: string;
  /** Of the server that runs now. */
  readonly pid: number;
  /** Kills the server. */
  down(): Promise<void>;
  /** Starts it again on the same port, empty. */
  up(): Promise<void>;
}

/**
 * Why tests with Redis do not run here, for `skip`; false where `redis-server` is on the PATH. `npm run test:redis` sets
 * PULSEWIRE_TEST_REDIS to `required`, and then it is missed.
 */
export async function redisIsMissing(): Promise<string | false> {
  const probe = spawn("redis-server", ["--version"], { stdio: "ignore" });
  const found = await Promise.race([
    once(probe, "close").then(([code]) => code === 0),
    once(probe, "error").then(() => false),
  ]);
  if (found || process.env.PULSEWIRE_TEST_REDIS === "required") return false;
  return "redis-server is not on the PATH";
}

/** Starts a Redis; ends it with the scope. */
export async function startRedis(): Promise<TestRedis> {
  const dir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-redis-"));
  const port = await freePort();
  let child: ChildProcess | undefined;
  const down = async () => {
    if (!child) return;
    const ended = once(child, "close");
    child.kill("SIGKILL");
    child = undefined;
    await ended;
  };
  const up = async () => {
    const settings = { port, bind: "127.0.0.1", dir, save: "", appendonly: "no" };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    for await (const chunk of child.stdout ?? []) {
      said += chunk;
      if (said.includes("Ready to accept connections")) break;
    }
    if (!said.includes("Ready to accept connections"))
      throw new Error(`redis-server did not start:\n${said}`);
  };
  await up();
  return {
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return child?.pid ?? -1;
    },
    down,
    up,
    async [Symbol.asyncDispose]() {
      await down();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address ? address.port : 0;
}
