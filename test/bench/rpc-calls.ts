/** One unary call again and again, by hand: gRPC and JSON over HTTP/1.1. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import { IngestionService } from "../../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { flags, frame, frames, headerBlocks, RawHttp2 } from "../helpers/raw-http2.ts";
import { type Stencil, singleFrame } from "./events.ts";
import type { Caller, Workload } from "./workload.ts";

const frameHeadBytes = 9;
const envelopeBytes = 5;

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

/** Unary gRPC, the same message again and again. Every answer must hold a message, which errors do not. */
export function rpcGrpcWorkload(options: RpcCallOptions): Promise<Workload> {
  const message = Buffer.from(options.body, "base64");
  const framed = Buffer.concat([Buffer.alloc(5), message]);
  framed.writeUInt32BE(message.length, 1);
  const same = { stamp: () => framed };
  return grpcByHand(
    options,
    () => same,
    () => {},
  );
}

/** Single events over gRPC, to our server or to one that answers alike. */
export function singleWorkload(options: SingleOptions): Promise<Workload> {
  const { ingestEvent } = IngestionService.method;
  const path = `/${IngestionService.typeName}/${ingestEvent.name}`;
  const headers = { "x-api-key": options.apiKey };
  return grpcByHand({ ...options, path, headers }, singleFrame, (answer) => {
    const { duplicate, eventId } = fromBinary(ingestEvent.output, answer);
    if (duplicate || !eventId) throw new Error("an event was not accepted");
  });
}

export interface SingleOptions {
  readonly url: string;
  readonly apiKey: string;
  readonly callers: number;
  readonly connections: number;
}

/** Unary calls whose messages are stamped anew. `check` looks at each answer; all must end like the first one of their connection. */
async function grpcByHand(
  { url, path, headers, callers, connections }: Omit<RpcCallOptions, "body">,
  stencilOf: (caller: number) => Stencil,
  check: (answer: Uint8Array) => void,
): Promise<Workload> {
  const blocks = headerBlocks({
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": new URL(url).host,
    "content-type": "application/grpc",
    te: "trailers",
    "user-agent": "grpc-node-js/1.14.7",
    "grpc-accept-encoding": "identity,deflate,gzip",
    ...headers,
  });
  const sockets = await Promise.all(Array.from({ length: connections }, () => RawHttp2.open(url)));
  const list: Caller[] = [];
  for (const [index, connection] of sockets.entries()) {
    const waiting = new Map<number, PromiseWithResolvers<number>>();
    const answers = new Map<number, Buffer>();
    let trailers: Buffer | undefined;
    connection.onFrame = (type, flag, id, payload) => {
      if (type === frames.goaway || type === frames.reset) waiting.get(id)?.reject(new Error("reset"));
      if (type === frames.data) {
        const before = answers.get(id);
        answers.set(id, before ? Buffer.concat([before, payload]) : payload);
      }
      if (!(flag & flags.endStream) || type > frames.headers) return;
      const call = waiting.get(id);
      const answer = answers.get(id);
      waiting.delete(id);
      answers.delete(id);
      trailers ??= Buffer.from(payload);
      try {
        if (!answer || !trailers.equals(payload)) throw new Error(payload.toString("latin1"));
        check(answer.subarray(envelopeBytes));
        call?.resolve(1);
      } catch (error) {
        call?.reject(error);
      }
    };
    const later = frame(frames.headers, flags.endHeaders, 0, blocks.later);
    // The first head fills the table that the later ones refer to.
    let head = frame(frames.headers, flags.endHeaders, 0, blocks.first);
    let outgoing: Buffer[] = [];
    const send = () => {
      connection.socket.write(outgoing.length === 1 ? (outgoing[0] as Buffer) : Buffer.concat(outgoing));
      outgoing = [];
    };
    const callOf = (stencil: Stencil): Caller => {
      const data = frame(frames.data, flags.endStream, 0, stencil.stamp());
      return () => {
        const id = connection.nextId();
        const answer = Promise.withResolvers<number>();
        waiting.set(id, answer);
        const bytes = Buffer.concat([head, data]);
        bytes.writeUInt32BE(id, 5);
        bytes.writeUInt32BE(id, head.length + 5);
        bytes.set(stencil.stamp(), head.length + frameHeadBytes);
        // As client libraries do it: what one turn of the event loop brings leaves in one write.
        if (outgoing.push(bytes) === 1) setImmediate(send);
        if (head !== later) head = later;
        return answer.promise;
      };
    };
    for (let caller = index; caller < callers; caller += connections) list.push(callOf(stencilOf(caller)));
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
