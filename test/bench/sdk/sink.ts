/**
 * The sink, a process of its own: takes what each library sends, counts it, and fails as it is told. It reads nothing
 * but the marks of the events, and of gRPC how many there are, which its answer has to say.
 */
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { gunzipSync } from "node:zlib";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { markDigits, markPrefix } from "./event.ts";

/** What happens to requests. */
export type SinkMode = "ok" | "503" | "hang" | "lose-answer";

export type SinkCommand =
  | { kind: "reset"; distinct: boolean }
  | { kind: "mode"; mode: SinkMode }
  | { kind: "down" }
  | { kind: "up" }
  | { kind: "read" };

export interface SinkCounts {
  /** Events received, repeated ones included. */
  readonly events: number;
  /** Different events, where it was told to tell them apart. */
  readonly distinct: number;
  readonly requests: number;
  /** Requests that it failed as it was told, refused connections included. */
  readonly failed: number;
  /** When the last event came, on the machine's monotonic clock in milliseconds. */
  readonly lastMs: number;
  /** When the last event came that had not come before. */
  readonly lastNewMs: number;
}

export interface SinkReady {
  readonly url: string;
  readonly grpcUrl: string;
}

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

let mode: SinkMode = "ok";
let distinct: Set<number> | undefined;
let counts = fresh();

function fresh() {
  return { events: 0, requests: 0, failed: 0, lastMs: 0, lastNewMs: 0 };
}

const mark = Buffer.from(markPrefix);

function count(body: Buffer): void {
  let events = 0;
  const before = distinct?.size ?? 0;
  for (let at = body.indexOf(mark); at >= 0; at = body.indexOf(mark, at + mark.length + markDigits)) {
    events++;
    const digits = at + mark.length;
    distinct?.add(Number(body.toString("latin1", digits, digits + markDigits)));
  }
  counts.events += events;
  if (events > 0) counts.lastMs = nowMs();
  if ((distinct?.size ?? 0) > before) counts.lastNewMs = counts.lastMs;
}

const sockets = new Set<Socket>();
const keep = (socket: Socket) => {
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
  socket.on("error", () => {});
};

const plain = http.createServer({ keepAliveTimeout: 60_000 }, async (request, response) => {
  counts.requests++;
  if (mode === "hang") {
    counts.failed++;
    request.resume();
    return;
  }
  const body = await bodyOf(request);
  if (!body) return;
  if (mode === "503") {
    counts.failed++;
    response.writeHead(503).end();
    return;
  }
  count(request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body);
  if (mode === "lose-answer") {
    mode = "ok";
    request.socket.destroy();
    return;
  }
  const path = request.url ?? "";
  if (path.startsWith("/v1/logs"))
    response.writeHead(200, { "content-type": "application/x-protobuf" }).end();
  else if (path.startsWith("/api/v2/write")) response.writeHead(204).end();
  else response.writeHead(200, { "content-type": "application/json" }).end('{"status":1,"success":true}');
});

const grpc = http2.createServer();
grpc.on("sessionError", () => {});
grpc.on("stream", async (stream: http2.ServerHttp2Stream) => {
  stream.on("error", () => {});
  counts.requests++;
  if (mode === "hang") {
    counts.failed++;
    stream.resume();
    return;
  }
  const body = await bodyOf(stream);
  if (!body) return;
  if (mode === "503") {
    counts.failed++;
    stream.respond({ ":status": 503 }, { endStream: true });
    return;
  }
  const message = body[0] === 1 ? gunzipSync(body.subarray(5)) : body.subarray(5);
  count(message);
  if (mode === "lose-answer") {
    mode = "ok";
    stream.session?.destroy();
    return;
  }
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(frame(answer(message)));
});

async function bodyOf(stream: AsyncIterable<Buffer>): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of stream) chunks.push(chunk);
  } catch {
    // The connection was cut, by us or by the client.
    return undefined;
  }
  return Buffer.concat(chunks);
}

/** An IngestEventsResponse: all events of the IngestEventsRequest accepted. */
function answer(request: Uint8Array): Uint8Array {
  const [reader, writer] = [new BinaryReader(request), new BinaryWriter()];
  let [events, omitIfAllAccepted] = [0, false];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) events++;
    if (field === 4) omitIfAllAccepted = reader.bool();
    else reader.skip(type, field);
  }
  if (!omitIfAllAccepted) throw new Error("the sink does not know the events' ids");
  writer.tag(1, WireType.LengthDelimited).fork();
  for (const field of [1, 2]) writer.tag(field, WireType.Varint).uint32(events);
  return writer.join().finish();
}

function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(5 + message.length);
  framed.writeUInt8(0, 0);
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

async function listen(server: http.Server | http2.Http2Server, port: number): Promise<number> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function stop(server: http.Server | http2.Http2Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, "close");
  server.close();
  for (const socket of sockets) socket.destroy();
  await closed;
}

for (const server of [plain, grpc]) server.on("connection", keep);
const port = await listen(plain, 0);
const grpcPort = await listen(grpc, 0);

async function obey(command: SinkCommand): Promise<SinkCounts> {
  switch (command.kind) {
    case "reset":
      mode = "ok";
      counts = fresh();
      distinct = command.distinct ? new Set() : undefined;
      break;
    case "mode":
      // Those that were left without an answer stay so.
      mode = command.mode;
      break;
    case "down":
      await Promise.all([stop(plain), stop(grpc)]);
      break;
    case "up":
      await Promise.all([listen(plain, port), listen(grpc, grpcPort)]);
      break;
    case "read":
      break;
  }
  return { ...counts, distinct: distinct?.size ?? 0 };
}

process.on("message", (command: SinkCommand) => {
  void obey(command).then((answered) => process.send?.(answered));
});
process.on("disconnect", () => process.exit());
process.send?.({
  url: `http://127.0.0.1:${port}`,
  grpcUrl: `http://127.0.0.1:${grpcPort}`,
} satisfies SinkReady);
