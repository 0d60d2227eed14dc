/**
 * What progress is measured against, as a process of its own: `node progress-peers.ts <kind> <JSON>`. Each is what somebody
 * would write who needs only this: Fastify with one UPDATE a call, Fastify with Redis, and server-sent events.
 */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import Fastify from "fastify";
import { Redis } from "ioredis";
import { type ClientConfig, Pool } from "pg";

/** What the process is given. */
export interface PeerOptions {
  readonly database?: ClientConfig;
  readonly redisUrl?: string;
}

const { database, redisUrl } = JSON.parse(process.argv[3] ?? "{}") as PeerOptions;
const increments = {
  type: "object",
  properties: { done: { type: "integer", minimum: 0 } },
  required: ["done"],
} as const;
const counts = { type: "object", properties: { done: { type: "integer" } } } as const;
const schema = { body: increments, response: { 200: counts } };

/** One row, one UPDATE a call: PostgreSQL, durable as ours. */
async function updating(): Promise<string> {
  const pool = new Pool({ ...database, max: 16 });
  await pool.query(
    "create table if not exists public.bench_progress (id int primary key, done bigint not null)",
  );
  await pool.query("insert into public.bench_progress values (1, 0) on conflict do nothing");
  const app = Fastify();
  app.post<{ Body: { done: number } }>("/progress", { schema }, async ({ body }) => {
    const { rows } = await pool.query({
      name: "add",
      text: "update public.bench_progress set done = done + $1 where id = 1 returning done",
      values: [body.done],
    });
    return { done: Number(rows[0].done) };
  });
  return await app.listen({ host: "127.0.0.1", port: 0 });
}

/** HINCRBY a call: Redis, which keeps nothing on disk here. */
async function counting(): Promise<string> {
  const redis = new Redis(redisUrl ?? "", { enableAutoPipelining: true });
  const app = Fastify();
  app.post<{ Body: { done: number } }>("/progress", { schema }, async ({ body }) => ({
    done: await redis.hincrby("progress", "done", body.done),
  }));
  return await app.listen({ host: "127.0.0.1", port: 0 });
}

/** Server-sent events on node:http: each POST is sent to all who have connected. */
async function streaming(): Promise<string> {
  const watchers = new Set<ServerResponse>();
  const server = createServer((req, res) => {
    if (req.method === "GET") {
      res.writeHead(200, { "content-type": "text/event-stream" });
      res.flushHeaders();
      watchers.add(res);
      res.on("close", () => watchers.delete(res));
      return;
    }
    let body = "";
    req.on("data", (chunk) => {
      body += chunk;
    });
    req.on("end", () => {
      const event = Buffer.from(`data: ${body}\n\n`);
      for (const watcher of watchers) watcher.write(event);
      res.writeHead(200, { "content-length": "2" });
      res.end("{}");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const kinds: Record<string, () => Promise<string>> = { updating, counting, streaming };
const kind = kinds[process.argv[2] ?? ""];
if (!kind) throw new Error(`unknown peer: ${process.argv[2]}`);
process.on("disconnect", () => process.exit());
process.send?.({ url: await kind() });
