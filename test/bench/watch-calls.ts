/** Many who watch the same stream, by hand: they only count what comes. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { ProgressService } from "../../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { flags, frame, frames, headerBlocks, RawHttp2 } from "../helpers/raw-http2.ts";
import { mark } from "./watchers.ts";
import type { Workload } from "./workload.ts";

export interface WatchOptions {
  readonly url: string;
  readonly protocol: "grpc" | "connect" | "sse";
  readonly headers: Readonly<Record<string, string>>;
  readonly watchers: number;
}

const method = ProgressService.method.watchProgress;
const path = `/${method.parent.typeName}/${method.name}`;
/** Streams on one connection of HTTP/2. */
export const streamsEach = 100;
const countEveryMs = 20;

/** Opens all of them, which count as watching when the head of their answer has come. */
export async function watchWorkload(options: WatchOptions): Promise<Workload> {
  const counter = { messages: 0 };
  const sockets = await (options.protocol === "grpc" ? watchGrpc : watchHttp1)(options, counter);
  let counted = 0;
  return {
    callers: [
      async () => {
        await sleep(countEveryMs);
        const more = counter.messages - counted;
        counted += more;
        return more;
      },
    ],
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

interface Counter {
  messages: number;
}

async function watchHttp1({ url, protocol, headers, watchers }: WatchOptions, counter: Counter) {
  const { hostname, port, host } = new URL(url);
  const body = Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from("{}")]);
  const fields = Object.entries({
    ...headers,
    host,
    ...(protocol === "connect" && {
      "content-type": "application/connect+json",
      "content-length": String(body.length),
    }),
  });
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const verb = protocol === "connect" ? "POST" : "GET";
  const request = Buffer.concat([
    Buffer.from(`${verb} ${path} HTTP/1.1\r\n${head}\r\n`),
    protocol === "connect" ? body : Buffer.alloc(0),
  ]);
  const sockets: Socket[] = [];
  for (let index = 0; index < watchers; index++) {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    sockets.push(socket);
    await once(socket, "connect");
    socket.write(request);
    const [first] = (await once(socket, "data")) as [Buffer];
    if (!first.toString("latin1").startsWith("HTTP/1.1 200")) throw new Error(first.toString());
    socket.on("data", (chunk: Buffer) => {
      counter.messages += marksIn(chunk);
    });
  }
  return sockets;
}

async function watchGrpc({ url, headers, watchers }: WatchOptions, counter: Counter) {
  const message = toBinary(method.input, create(method.input));
  const data = Buffer.concat([Buffer.alloc(5), message]);
  data.writeUInt32BE(message.length, 1);
  const sockets: Socket[] = [];
  for (let opened = 0; opened < watchers; opened += streamsEach) {
    const connection = await RawHttp2.open(url);
    sockets.push(connection.socket);
    const { first, later } = headerBlocks({
      ":method": "POST",
      ":scheme": "http",
      ":path": path,
      ":authority": new URL(url).host,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    const count = Math.min(streamsEach, watchers - opened);
    let answered = 0;
    const all = Promise.withResolvers<void>();
    connection.onFrame = (type, flag, _, payload) => {
      if (type === frames.data) counter.messages += marksIn(payload);
      if (type !== frames.headers) return;
      if (flag & flags.endStream) all.reject(new Error(`a stream ended: ${payload.toString("latin1")}`));
      if (++answered === count) all.resolve();
    };
    for (let index = 0; index < count; index++) {
      const id = connection.nextId();
      connection.socket.write(frame(frames.headers, flags.endHeaders, id, index === 0 ? first : later));
      connection.socket.write(frame(frames.data, flags.endStream, id, data));
    }
    await all.promise;
  }
  return sockets;
}

const markByte = mark.charCodeAt(0);

function marksIn(chunk: Buffer): number {
  let count = 0;
  for (let at = chunk.indexOf(markByte); at >= 0; at = chunk.indexOf(markByte, at + 1)) count++;
  return count;
}
