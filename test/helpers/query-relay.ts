import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import os from "node:os";
import path from "node:path";

/** Stands between a server and PostgreSQL and reads along. */
export interface QueryRelay extends AsyncDisposable {
  /** The same database through the relay. */
  readonly url: string;
  /** The SQL of all statements that were sent so far, in their order. */
  readonly statements: readonly string[];
}

/** Relays to the PostgreSQL of a URL whose host is the folder of a Unix socket. */
export async function startQueryRelay(databaseUrl: string): Promise<QueryRelay> {
  const { hostname, port } = new URL(databaseUrl);
  const folder = await mkdtemp(path.join(os.tmpdir(), "pw-relay-"));
  const socketName = `.s.PGSQL.${port}`;
  const statements: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const database = connect(path.join(decodeURIComponent(hostname), socketName));
    const read = readStatements((text) => statements.push(text));
    for (const [from, to] of [
      [client, database],
      [database, client],
    ] as const) {
      sockets.add(from);
      from.on("error", () => {});
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
    client.on("data", (chunk: Buffer) => {
      read(chunk);
      database.write(chunk);
    });
    client.on("end", () => database.end());
    database.on("data", (chunk) => client.write(chunk));
  });
  server.listen(path.join(folder, socketName));
  await once(server, "listening");
  return {
    url: databaseUrl.replace(hostname, encodeURIComponent(folder)),
    statements,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const startupBytes = 4;
const headBytes = 5;

/** Finds the SQL in what a client sends: the texts of Query and Parse messages. node-postgres names no statements. */
function readStatements(found: (text: string) => void): (chunk: Buffer) => void {
  let buffer = Buffer.alloc(0);
  let started = false;
  return (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    for (;;) {
      // The first message has no type.
      const typeBytes = started ? 1 : 0;
      if (buffer.length < (started ? headBytes : startupBytes)) return;
      const end = typeBytes + buffer.readUInt32BE(typeBytes);
      if (buffer.length < end) return;
      const type = started ? String.fromCharCode(buffer[0] as number) : "";
      const body = buffer.subarray(headBytes, end);
      if (type === "Q") found(textAt(body, 0));
      if (type === "P") found(textAt(body, body.indexOf(0) + 1));
      buffer = buffer.subarray(end);
      started = true;
    }
  };
}

const textAt = (body: Buffer, from: number) => body.toString("utf8", from, body.indexOf(0, from));
