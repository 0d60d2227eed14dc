import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Caller, Workload } from "./workload.ts";

export interface Http1CallOptions {
  readonly url: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The body of every request, JSON. */
  readonly body: string;
  readonly callers: number;
}

/**
 * The same POST again and again over HTTP/1.1, a connection for each caller. Every answer must be a 200; answers differ in
 * length.
 */
export async function http1Workload(options: Http1CallOptions): Promise<Workload> {
  const { url, path, body, callers } = options;
  const { hostname, port, host } = new URL(url);
  const fields = Object.entries({ ...options.headers, "content-type": "application/json" });
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const request = Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: ${host}\r\n${head}content-length: ${body.length}\r\n\r\n${body}`,
    "latin1",
  );
  const sockets: Socket[] = [];
  const list: Caller[] = [];
  for (let index = 0; index < callers; index++) {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, "connect");
    sockets.push(socket);
    list.push(callerOn(socket, request));
  }
  return {
    callers: list,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

function callerOn(socket: Socket, request: Buffer): Caller {
  let answer = Promise.withResolvers<number>();
  let missing = 0;
  let kept: Buffer | undefined;
  const fail = (chunk: Buffer) => answer.reject(new Error(`no good answer: ${chunk.toString("latin1")}`));
  socket.on("error", (error) => answer.reject(error));
  socket.on("close", () => answer.reject(new Error("the connection was closed")));
  socket.on("data", (chunk: Buffer) => {
    if (missing === 0) {
      const start = kept ? Buffer.concat([kept, chunk]) : chunk;
      kept = undefined;
      const end = start.indexOf("\r\n\r\n");
      if (end < 0) {
        kept = start;
        return;
      }
      if (start[9] !== 0x32) fail(start);
      missing = end + 4 + lengthIn(start, end) - start.length;
    } else {
      missing -= chunk.length;
    }
    if (missing < 0) fail(chunk);
    if (missing <= 0) {
      missing = 0;
      answer.resolve(1);
    }
  });
  return () => {
    answer = Promise.withResolvers();
    socket.write(request);
    return answer.promise;
  };
}

const field = Buffer.from("ontent-length: ");

/** The length that the head of an answer gives; digits are read as they stand. */
function lengthIn(answer: Buffer, end: number): number {
  const at = answer.indexOf(field);
  if (at < 0 || at > end) throw new Error(`an answer has no length: ${answer.toString("latin1")}`);
  let length = 0;
  for (let place = at + field.length; ; place++) {
    const digit = (answer[place] as number) - 0x30;
    if (digit < 0 || digit > 9) return length;
    length = 10 * length + digit;
  }
}
