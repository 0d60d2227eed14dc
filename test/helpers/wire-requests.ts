/** Requests of every kind, good and bad, as plans that can be sent to one server after the other, and what came back. */
import http from "node:http";
import http2 from "node:http2";
import { setImmediate as nextTurn } from "node:timers/promises";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ProgressService } from "../../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { twinReadMaxBytes } from "./twin-listeners.ts";

export interface WirePlan {
  readonly transport: "h1" | "h2";
  readonly verb: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[]>>;
  /** The body in the pieces in which it is sent. */
  readonly pieces: readonly Buffer[];
  readonly trailers: Readonly<Record<string, string>> | undefined;
  /** After how many pieces the client leaves; undefined: it stays. */
  readonly leavesAfter: number | undefined;
}

/** What came back, in a form that can be compared. */
export type WireAnswer = Readonly<Record<string, unknown>>;

const acts = [
  "echo",
  "large",
  "error",
  "details",
  "throw",
  "headers",
  "cookies",
  "odd-header",
  "unwritable",
  "slow",
  "request",
  "late-error",
  "",
];
const types = [
  ...["application/grpc", "application/grpc+proto", "application/grpc+json"],
  ...["application/proto", "application/json", "application/json; charset=utf-8"],
  ...["application/connect+proto", "application/connect+json"],
];
const oddTypes = ["application/grpc-web+proto", "text/plain", "application/JSON", "application/grpc+xml", ""];
const timeouts = ["5m", "10S", "1H", "0m", "99999999H", "1", "x", "5000", "86400001", "-1"];
const encodings = ["identity", "gzip", "br", "zstd"];
const acceptable = ["gzip", "br", "identity", "br, gzip", "zstd,gzip", "*", ""];

const often = <T>(usual: fc.Arbitrary<T>, seldom: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 8, arbitrary: usual }, { weight: 1, arbitrary: seldom });
const maybe = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });

const metadata = fc.dictionary(
  fc.stringMatching(/^x-[a-z]{1,6}$/),
  fc.oneof(
    fc.stringMatching(/^[!-~]([ -~]{0,12}[!-~])?$/),
    fc.array(fc.stringMatching(/^[!-~]{1,6}$/), { minLength: 2, maxLength: 3 }),
  ),
  { maxKeys: 3 },
);

/** How a good body is spoilt. */
const spoiling = often(
  fc.constant<(body: Buffer) => Buffer>((body) => body),
  fc.oneof(
    fc.nat(20).map((count) => (body: Buffer) => body.subarray(0, Math.max(0, body.length - count))),
    fc
      .uint8Array({ minLength: 1, maxLength: 12 })
      .map((more) => (body: Buffer) => Buffer.concat([body, more])),
    fc.constant((body: Buffer) => Buffer.concat([body, body])),
    fc.constant((body: Buffer) => Buffer.concat([body, body, body.subarray(0, 3)])),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => () => Buffer.from(bytes)),
    fc.tuple(fc.nat(60), fc.nat(255)).map(([at, value]) => (body: Buffer) => {
      const copy = Buffer.from(body);
      if (copy.length > 0) copy[at % copy.length] = value;
      return copy;
    }),
    fc.constant((body: Buffer) => Buffer.concat([Buffer.from("\ufeff"), body])),
    fc.constant((body: Buffer) =>
      Buffer.from(body.toString("latin1").replace("{", '{"filename":"a",'), "latin1"),
    ),
    fc.constant(() => Buffer.alloc(0)),
    fc.constant((body: Buffer) => Buffer.concat([body, Buffer.alloc(twinReadMaxBytes + 10, 0x20)])),
    fc.constant(() => Buffer.from([0, 0, 1, 0, 0, 1, 2, 3])),
  ),
);

/** Any request. */
export const wirePlan: fc.Arbitrary<WirePlan> = fc
  .record({
    transport: fc.constantFrom("h1" as const, "h2" as const),
    verb: often(fc.constant("POST"), fc.constantFrom("GET", "PUT")),
    streams: fc.boolean(),
    path: often(fc.constant(""), fc.constantFrom("?x=1", "/", "x")),
    type: often(fc.constantFrom(...types), fc.constantFrom(...oddTypes)),
    fit: often(fc.constant(true), fc.constant(false)),
    metadata,
    timeout: maybe(fc.constantFrom(...timeouts)),
    encoding: maybe(fc.constantFrom(...encodings)),
    accepts: maybe(fc.constantFrom(...acceptable)),
    act: fc.constantFrom(...acts),
    valid: often(fc.constant(true), fc.constant(false)),
    messages: fc.nat(4),
    pushed: fc.boolean(),
    spoil: spoiling,
    cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 }),
    announced: fc.boolean(),
    trailers: maybe(fc.constant({ "x-late": "1" })),
    leaves: often(fc.constant(undefined), fc.nat(3)),
  })
  .map((given) => {
    const method = given.streams ? ProgressService.method.watchProgress : ProgressService.method.getProgress;
    const type = given.fit ? fitting(given.type, given.streams) : given.type;
    const json = /json/i.test(type);
    const message = given.streams
      ? create(ProgressService.method.watchProgress.input, {
          clientKrn: given.valid ? "krn:acme:client:one" : "krn:!",
          filename: given.act,
          cursor: "c".repeat(given.messages),
          skipSnapshot: given.pushed,
        })
      : create(ProgressService.method.getProgress.input, {
          clientKrn: given.valid ? "krn:acme:client:one" : "krn:!",
          filename: given.act,
        });
    const data = json
      ? Buffer.from(toJsonString(method.input, message as never))
      : Buffer.from(toBinary(method.input, message as never));
    const enveloped = /grpc|connect/.test(type);
    const body = given.spoil(enveloped ? envelope(data) : data);
    const grpc = type.startsWith("application/grpc");
    const stream = /connect\+/.test(type);
    const [timeoutName, encodingName, acceptName] = grpc
      ? ["grpc-timeout", "grpc-encoding", "grpc-accept-encoding"]
      : stream
        ? ["connect-timeout-ms", "connect-content-encoding", "connect-accept-encoding"]
        : ["connect-timeout-ms", "content-encoding", "accept-encoding"];
    const headers: Record<string, string | string[]> = {
      ...given.metadata,
      ...(type && { "content-type": type }),
      ...(grpc && { te: "trailers" }),
      ...(given.timeout !== undefined && { [timeoutName as string]: given.timeout }),
      ...(given.encoding !== undefined && { [encodingName as string]: given.encoding }),
      ...(given.accepts !== undefined && { [acceptName as string]: given.accepts }),
      ...(given.announced && { "content-length": String(body.length) }),
    };
    return {
      transport: given.transport,
      verb: given.verb,
      path: `/${ProgressService.typeName}/${method.name}${given.path}`,
      headers,
      pieces: given.verb === "GET" ? [] : split(body, given.cuts),
      trailers: given.transport === "h2" ? given.trailers : undefined,
      leavesAfter: given.leaves,
    };
  });

/** The content type for the kind of method, where the drawn one is for the other. */
function fitting(type: string, streams: boolean): string {
  if (streams) return type.replace(/^application\/(proto|json).*/, "application/connect+$1");
  return type.replace("connect+", "");
}

function envelope(data: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(data.length, 1);
  return Buffer.concat([head, data]);
}

function split(body: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => Math.floor(cut * body.length)).sort((a, b) => a - b), body.length];
  return places.slice(1).map((end, index) => body.subarray(places[index], end));
}

/** Sends requests to one port. */
export interface WireClient extends Disposable {
  send(plan: WirePlan): Promise<WireAnswer>;
}

export function wireClient(port: number): WireClient {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  return {
    send: (plan) => (plan.transport === "h2" ? sendHttp2(session, plan) : sendHttp1(port, plan)),
    [Symbol.dispose]: () => session.destroy(),
  };
}

async function sendHttp2(session: http2.ClientHttp2Session, plan: WirePlan): Promise<WireAnswer> {
  const { verb, path, headers, pieces, trailers, leavesAfter } = plan;
  const stream = session.request(
    { ":method": verb, ":path": path, ...headers },
    { endStream: pieces.length === 0, waitForTrailers: trailers !== undefined },
  );
  let answer: http2.IncomingHttpHeaders = {};
  let ends: http2.IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on("response", (got) => {
    answer = got;
  });
  stream.on("trailers", (got) => {
    ends = got;
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("error", () => {});
  if (trailers) stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  const closed = new Promise((resolve) => stream.once("close", resolve));
  for (const [index, piece] of pieces.entries()) {
    if (leavesAfter === index) stream.close(http2.constants.NGHTTP2_CANCEL);
    if (stream.destroyed || stream.closed) break;
    stream.write(piece);
    await nextTurn();
  }
  if (!stream.closed && !stream.destroyed && pieces.length > 0) stream.end();
  await closed;
  if (leavesAfter !== undefined) return { left: true };
  return comparable(answer, ends, Buffer.concat(chunks));
}

function sendHttp1(port: number, plan: WirePlan): Promise<WireAnswer> {
  const { verb, path, headers, pieces, leavesAfter } = plan;
  return new Promise((resolve) => {
    const req = http.request({ port, host: "127.0.0.1", method: verb, path, headers, agent: false });
    req.on("response", (res) => {
      const chunks: Buffer[] = [];
      res.on("data", (chunk: Buffer) => chunks.push(chunk));
      res.on("error", () => {});
      res.on("close", () =>
        resolve(
          leavesAfter !== undefined
            ? { left: true }
            : comparable(
                { ":status": String(res.statusCode), ...res.headers },
                res.trailers,
                Buffer.concat(chunks),
              ),
        ),
      );
    });
    req.on("error", (error: NodeJS.ErrnoException) =>
      resolve(leavesAfter !== undefined ? { left: true } : { failed: error.code }),
    );
    const write = async () => {
      for (const [index, piece] of pieces.entries()) {
        if (leavesAfter === index) {
          req.destroy();
          return;
        }
        if (req.destroyed) return;
        req.write(piece);
        await nextTurn();
      }
      req.end();
    };
    void write();
  });
}

function comparable(
  headers: http.IncomingHttpHeaders | http2.IncomingHttpHeaders,
  trailers: NodeJS.Dict<string | string[]>,
  body: Buffer,
): WireAnswer {
  const { date: _, connection: __, "keep-alive": ___, ...fields } = headers;
  const type = String(headers["content-type"]);
  const encoding = headers["grpc-encoding"] ?? headers["connect-content-encoding"];
  const enveloped = /^application\/(?:grpc|connect)/.test(type);
  return {
    headers: { ...fields },
    trailers: { ...trailers },
    body: enveloped ? envelopesIn(body, String(encoding)) : body.toString("latin1"),
  };
}

/** What is in the envelopes: whether a message is compressed is the server's choice. */
function envelopesIn(body: Buffer, encoding: string): string[] {
  const found: string[] = [];
  let at = 0;
  while (body.length - at >= 5) {
    const flags = body[at] as number;
    const end = at + 5 + body.readUInt32BE(at + 1);
    const data = body.subarray(at + 5, end);
    const plain = flags & 1 ? (encoding === "br" ? brotliDecompressSync : gunzipSync)(data) : data;
    found.push(`${flags & ~1} ${plain.toString("latin1")}`);
    at = end;
  }
  if (at < body.length) found.push(`rest ${body.subarray(at).toString("latin1")}`);
  return found;
}
