/** One unary call again and again, by hand: gRPC and JSON over HTTP/1.1. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { flags, frame, frames, headerBlocks, RawHttp2 } from "../helpers/raw-http2.ts";
import type { Caller, Workload } from "./workload.ts";

export interface RpcCallOptions {
  readonly url: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The message, base64. */
  readonly body: string;
  readonly callers: number;
  /** HTTP/2 only: connections that the callers share. */
  readonly connections: number;
}

/** Unary gRPC. Every answer must hold a message, which errors do not, and end like the first one. */
export async function rpcGrpcWorkload(options: RpcCallOptions): Promise<Workload> {
  const { url, path, callers, connections } = options;
  const message = Buffer.from(options.body, "base64");
  const data = Buffer.concat([Buffer.alloc(5), message]);
  data.writeUInt32BE(message.length, 1);
  const blocks = headerBlocks({
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": new URL(url).host,
    "content-type": "application/grpc",
    te: "trailers",
    "user-agent": "grpc-node-js/1.14.7",
    "grpc-accept-encoding": "identity,deflate,gzip",
    ...options.headers,
  });
  const sockets = await Promise.all(Array.from({ length: connections }, () => RawHttp2.open(url)));
  const list: Caller[] = [];
  for (const [index, connection] of sockets.entries()) {
    const waiting = new Map<number, PromiseWithResolvers<number>>();
    const withMessage = new Set<number>();
    let good: Buffer | undefined;
    connection.onFrame = (type, flag, id, payload) => {
      if (type === frames.goaway || type === frames.reset) waiting.get(id)?.reject(new Error("reset"));
      if (type === frames.data) withMessage.add(id);
      if (!(flag & flags.endStream) || type > frames.headers) return;
      const call = waiting.get(id);
      waiting.delete(id);
      good ??= Buffer.from(payload);
      if (withMessage.delete(id) && good.equals(payload)) call?.resolve(1);
      else call?.reject(new Error(`a call failed: ${payload.toString("latin1")}`));
    };
    let begun = false;
    const later = Buffer.concat([
      frame(frames.headers, flags.endHeaders, 0, blocks.later),
      frame(frames.data, flags.endStream, 0, data),
    ]);
    const secondId = 9 + blocks.later.length + 5;
    const call: Caller = () => {
      const id = connection.nextId();
      const answer = Promise.withResolvers<number>();
      waiting.set(id, answer);
      if (begun) {
        const bytes = Buffer.from(later);
        bytes.writeUInt32BE(id, 5);
        bytes.writeUInt32BE(id, secondId);
        connection.socket.write(bytes);
      } else {
        begun = true;
        connection.socket.write(frame(frames.headers, flags.endHeaders, id, blocks.first));
        connection.socket.write(frame(frames.data, flags.endStream, id, data));
      }
      return answer.promise;
    };
    for (let caller = index; caller < callers; caller += connections) list.push(call);
    await call();
  }
  return {
    callers: list,
    async [Symbol.asyncDispose]() {
      for (const { socket } of sockets) socket.destroy();
    },
  };
}

/** JSON over HTTP/1.1, a connection for each caller. Every answer must be as long as the first one, and good. */
export async function rpcJsonWorkload(options: RpcCallOptions): Promise<Workload> {
  const { url, path, callers } = options;
  const { hostname, port, host } = new URL(url);
  const body = Buffer.from(options.body, "base64").toString();
  const head = Object.entries({ ...options.headers, "content-type": "application/json" })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("");
  const request = Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: ${host}\r\n${head}content-length: ${body.length}\r\n\r\n${body}`,
    "latin1",
  );
  const list: Caller[] = [];
  const sockets: Socket[] = [];
  for (let index = 0; index < callers; index++) {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, "connect");
    sockets.push(socket);
    let answer = Promise.withResolvers<number>();
    let length = 0;
    let text = "";
    let got = 0;
    socket.on("close", () => answer.reject(new Error("the connection was closed, or an answer was shorter")));
    socket.on("data", (chunk: Buffer) => {
      if (length === 0) {
        text += chunk.toString("latin1");
        const end = text.indexOf("\r\n\r\n");
        const size = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1]);
        if (end < 0 || text.length < end + 4 + size) return;
        if (!text.startsWith("HTTP/1.1 200")) answer.reject(new Error(text));
        length = end + 4 + size;
        answer.resolve(1);
        return;
      }
      if (got === 0 && chunk[9] !== 0x32) answer.reject(new Error(chunk.toString("latin1")));
      got += chunk.length;
      if (got < length) return;
      if (got > length) answer.reject(new Error(`an answer was longer: ${chunk.toString("latin1")}`));
      got = 0;
      answer.resolve(1);
    });
    const call: Caller = () => {
      answer = Promise.withResolvers();
      socket.write(request);
      return answer.promise;
    };
    await call();
    list.push(call);
  }
  return {
    callers: list,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}
