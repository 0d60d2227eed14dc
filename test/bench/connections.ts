/**
 * What connections and streams cost that do nothing: 10,000 idle connections of each protocol, and 10,000 open streams.
 * node test/bench/connections.ts [--count n]. Needs as many files as it opens (ulimit -n).
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { parseArgs } from "node:util";
import { RawHttp2 } from "../helpers/raw-http2.ts";
import { startLoadProcess } from "./load-process.ts";
import { printResult } from "./report.ts";
import { type RpcServer, startRpcServer } from "./rpc-process.ts";

const { values } = parseArgs({ options: { count: { type: "string", default: "10000" } } });
const count = Number(values.count);

async function memory(server: RpcServer): Promise<{ rss: number; used: number }> {
  const answer = await server.ask({ kind: "memory" });
  if (answer.kind !== "memory") throw new Error("the server is confused");
  return answer;
}

const rows: string[][] = [];
async function measure(title: string, open: (server: RpcServer, read: () => Promise<void>) => Promise<void>) {
  await using server = await startRpcServer("ours", ["--expose-gc"]);
  const before = await memory(server);
  await open(server, async () => {
    const after = await memory(server);
    rows.push([
      title,
      ((after.rss - before.rss) / count / 1_000).toFixed(1),
      ((after.used - before.used) / count / 1_000).toFixed(1),
    ]);
  });
}

await measure("idle HTTP/1.1 connection", async (server, read) => {
  const { hostname, port, host } = new URL(server.url);
  const sockets: Socket[] = [];
  for (let index = 0; index < count; index++) {
    const socket = connect({ host: hostname, port: Number(port) });
    await once(socket, "connect");
    socket.write(`GET /livez HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
    await once(socket, "data");
    sockets.push(socket);
  }
  await read();
  for (const socket of sockets) socket.destroy();
});
await measure("idle HTTP/2 connection", async (server, read) => {
  const sockets: Socket[] = [];
  for (let index = 0; index < count; index++) {
    const { socket } = await RawHttp2.open(server.url);
    await once(socket, "data");
    sockets.push(socket);
  }
  await read();
  for (const socket of sockets) socket.destroy();
});
for (const protocol of ["grpc", "connect"] as const) {
  await measure(
    `open stream, ${protocol === "grpc" ? "gRPC" : "Connect over HTTP/1.1"}`,
    async (server, read) => {
      await using load = startLoadProcess();
      const headers = server.apiKey ? { "x-api-key": server.apiKey } : {};
      await load.run(
        { kind: "watch", seconds: 0.1, url: server.url, protocol, headers, watchers: count },
        read,
      );
    },
  );
}
printResult({
  name: "connections",
  title: `${count.toLocaleString("en-US")} that do nothing`,
  columns: ["", "kB of RSS each", "kB of heap each"],
  rows,
  figures: undefined,
});
