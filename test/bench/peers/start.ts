import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { endWithThisProcess } from "../../helpers/server-process.ts";

/** A server that ours is measured against, on the same database server. */
export interface Peer extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
}

const startTimeoutMs = 20_000;

/** The table that the peers write to: no row security, one index. */
export async function createPeerTable(database: Client): Promise<void> {
  await database.query(`create table public.bench_peer (
    event_id text primary key, event_type text not null, user_id text, session_id text, severity text not null,
    priority smallint not null, occurred_at timestamptz not null, body json not null)`);
}

const here = import.meta.dirname;
const commands = {
  fastapi: (port: string) => [
    "/usr/bin/python3",
    "-m",
    "uvicorn",
    "fastapi_app:app",
    "--app-dir",
    here,
    "--port",
    port,
    "--log-level",
    "error",
  ],
  fastify: () => [process.execPath, path.join(here, "fastify-app.ts")],
  "grpc-js": () => [process.execPath, path.join(here, "grpc-js-app.ts")],
};

export async function startPeer(name: keyof typeof commands, database: Client): Promise<Peer> {
  const port = await freePort();
  const [command = "", ...args] = commands[name](String(port));
  const child = spawn(command, args, {
    env: {
      PATH: process.env.PATH,
      PEER_PORT: String(port),
      PEER_DB_HOST: database.host,
      PEER_DB_USER: database.user,
      PEER_DB_NAME: database.database,
      PGHOST: database.host,
    },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  endWithThisProcess(child);
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  try {
    await untilListening(port, child, name);
    return { url: `http://127.0.0.1:${port}`, pid: child.pid as number, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || !address) throw new Error("no port");
  return address.port;
}

async function untilListening(port: number, child: ChildProcess, name: string): Promise<void> {
  for (const end = performance.now() + startTimeoutMs; performance.now() < end; await sleep(50)) {
    if (child.exitCode !== null) throw new Error(`${name} ended before it listened`);
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (open) return;
  }
  throw new Error(`${name} did not listen in time`);
}
