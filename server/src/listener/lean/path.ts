/**
 * The lean path: unary calls and server streams, in gRPC over HTTP/2 and in Connect over both, without async iterators and
 * abort plumbing for each call. What it does not take is left to connect-node; both call the same handlers through the same interceptors.
 *
 * Here is decided which path a call takes: `choose` looks at the head of a request. A request that it takes and that
 * turns out not to be one whole, readable message is handed over to connect-node with all that was read of it, so that
 * malformed requests are answered there alone.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import type { DescMethod, JsonReadOptions, JsonWriteOptions } from "@bufbuild/protobuf";
import type { MethodImplSpec } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { Logger } from "pino";
import type { Interceptor } from "../../rpc/interceptor.ts";
import type { AmendError } from "../amend-errors.ts";
import type { HttpHandler } from "../http.ts";
import type { ListenerLimits } from "../limits.ts";
import { peerOf } from "../peers.ts";
import { type Listed, RunningList } from "../running.ts";
import type { CallRequest } from "./call.ts";
import { answerCompressions, streamFormats, timeoutOf, unaryFormats } from "./formats.ts";
import { Http1Wire } from "./http1.ts";
import { Http2Wire } from "./http2.ts";
import { type Codec, type LeanMethod, leanMethod } from "./method.ts";
import type { RequestHead } from "./request-head.ts";
import { StreamCall } from "./stream-call.ts";
import { UnaryCall } from "./unary-call.ts";
import type { CallValues } from "./values.ts";
import type { Wire, WireEvents } from "./wire.ts";

/** A call that runs, as those see it who watch over slow bodies and shutdowns. */
export interface RunningCall extends Listed<RunningCall> {
  readonly arrivedAt: number;
  /** Whether its body is whole. */
  readonly hasArrived: boolean;
  /** Gives the request to `answer`. */
  refuse(answer: HttpHandler): void;
  /** Closes its connection after the answer, where the connection serves one call after the other. */
  closeAfter(): void;
}

/** How many calls have gone which way. */
export interface LeanCounts {
  unary: number;
  streams: number;
  /** Of those, on connections that are read without Node's server. */
  direct: number;
  /** Taken at first and then left to connect-node. */
  handedOver: number;
  /** Never taken. */
  declined: number;
}

/** Takes requests back that are not for the lean path after all. */
export interface HandOver {
  stream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, rawHeaders: string[]): void;
  request(req: IncomingMessage, res: ServerResponse): void;
}

/** What the client address is found from. */
export interface Peer {
  readonly headers: IncomingHttpHeaders;
  readonly socket: { readonly remoteAddress?: string | undefined };
}

export interface LeanSettings {
  readonly limits: ListenerLimits;
  readonly jsonOptions: Partial<JsonReadOptions & JsonWriteOptions>;
  readonly amend: AmendError;
  readonly logger: Logger;
  readonly running: RunningList<RunningCall>;
  readonly counts: LeanCounts;
  readonly handOver: HandOver;
}

export interface LeanPathOptions extends Pick<LeanSettings, "limits" | "jsonOptions" | "amend" | "logger"> {
  readonly methods: readonly MethodImplSpec[];
  readonly interceptors: readonly Interceptor[];
  readonly compressions: readonly Compression[];
  readonly shutdownSignal: AbortSignal;
  /** Fills the values of a call in. */
  readonly prepare?: ((values: CallValues, peer: Peer) => void) | undefined;
  readonly codecs?: ReadonlyMap<DescMethod, Codec> | undefined;
}

/** The lean path of a port. */
export interface LeanPath {
  readonly running: RunningList<RunningCall>;
  readonly counts: Readonly<LeanCounts>;
  /** Says where requests go that were taken and are given up; to be called before the first one comes. */
  connect(handOver: HandOver): void;
  /** Takes a request of HTTP/2; false: it is not for the lean path. */
  takeStream(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    flags: number,
    rawHeaders: string[],
  ): boolean;
  /** Takes a request of HTTP/2 that has come on a wire without Node's server; false: it is not for the lean path. */
  takeHttp2(wire: Wire, headers: IncomingHttpHeaders, socket: Peer["socket"]): boolean;
  /** Takes a request of HTTP/1.1; false: it is not for the lean path. */
  takeRequest(req: IncomingMessage, res: ServerResponse): boolean;
  /** Takes a POST of HTTP/1.1 that has come on a wire without Node's server; undefined: it is not for the lean path. */
  takeDirect(wire: Wire, head: RequestHead, socket: Peer["socket"]): WireEvents | undefined;
}

export function createLeanPath(options: LeanPathOptions): LeanPath {
  const { limits, jsonOptions, amend, logger, interceptors, shutdownSignal, prepare } = options;
  const methods = new Map<string, LeanMethod>();
  for (const spec of options.methods) {
    const codec = options.codecs?.get(spec.method);
    const method = leanMethod(spec, { interceptors, jsonOptions, codec });
    if (method) methods.set(method.path, method);
  }
  const compressionFor = answerCompressions(options.compressions);
  const hosts = createHostCheck();
  const running = new RunningList<RunningCall>();
  const counts: LeanCounts = { unary: 0, streams: 0, direct: 0, handedOver: 0, declined: 0 };
  let settings: LeanSettings | undefined;

  /** Which path a call takes: undefined leaves it to connect-node. */
  function choose(
    verb: string | undefined,
    path: string | undefined,
    headers: IncomingHttpHeaders,
    isHttp2: boolean,
  ): CallRequest | undefined {
    const method = verb === "POST" ? methods.get(path ?? "") : undefined;
    if (!method || shutdownSignal.aborted) return undefined;
    const formats = method.streams ? streamFormats : unaryFormats;
    const format = formats.get(headers["content-type"] ?? "");
    if (!format || (format.protocol === "grpc" && !isHttp2)) return undefined;
    // Scripts from other origins get further headers; whoever asks before sending is answered first.
    if (headers.origin !== undefined || headers.expect !== undefined) return undefined;
    const encoding = headers[format.encodingHeader];
    if (encoding !== undefined && encoding !== "identity") return undefined;
    if (!hosts((headers[":authority"] as string | undefined) ?? headers.host)) return undefined;
    const announced = headers["content-length"];
    if (announced !== undefined && !(Number(announced) <= limits.readMaxBytes)) return undefined;
    const timeoutMs = timeoutOf(format, headers);
    if (timeoutMs !== undefined && !(timeoutMs <= limits.maxTimeoutMs)) return undefined;
    return {
      method,
      format,
      headers,
      timeoutMs,
      compression: compressionFor(headers[format.acceptEncodingHeader]),
    };
  }

  /** Heads that come again are the same object, on wires that are read here; what is chosen depends on them alone. */
  const choices = new WeakMap<IncomingHttpHeaders, CallRequest>();
  function chosen(
    verb: string | undefined,
    path: string | undefined,
    headers: IncomingHttpHeaders,
    isHttp2: boolean,
  ): CallRequest | undefined {
    const known = choices.get(headers);
    if (known) return shutdownSignal.aborted ? undefined : known;
    const request = choose(verb, path, headers, isHttp2);
    if (request) choices.set(headers, request);
    return request;
  }

  return {
    running,
    counts,
    connect(handOver) {
      settings = { limits, jsonOptions, amend, logger, running, counts, handOver };
    },
    takeStream(stream, headers, flags, rawHeaders) {
      const request =
        settings && choose(headers[":method"] as string, headers[":path"] as string, headers, true);
      if (!settings || !request) {
        counts.declined++;
        return false;
      }
      const wire = new Http2Wire(stream, headers, flags, rawHeaders, settings.handOver);
      const call = begin(wire, request, settings);
      if (prepare) prepare(call.contextValues, { headers, socket: peerOf(stream) });
      return true;
    },
    takeHttp2(wire, headers, socket) {
      const request =
        settings && chosen(headers[":method"] as string, headers[":path"] as string, headers, true);
      if (!settings || !request) return false;
      const call = begin(wire, request, settings);
      prepare?.(call.contextValues, { headers, socket });
      counts.direct++;
      return true;
    },
    takeRequest(req, res) {
      // Before HTTP/1.1 there are no chunks, and so no streams.
      const isHttp11 = req.httpVersionMinor === 1;
      const request = settings && isHttp11 ? choose(req.method, req.url, req.headers, false) : undefined;
      if (!settings || !request) {
        counts.declined++;
        return false;
      }
      const call = begin(new Http1Wire(req, res, settings.handOver), request, settings);
      prepare?.(call.contextValues, req);
      return true;
    },
    takeDirect(wire, head, socket) {
      const request = settings && chosen("POST", head.path, head.headers, false);
      if (!settings || !request) return undefined;
      const call = begin(wire, request, settings);
      prepare?.(call.contextValues, { headers: head.headers, socket });
      counts.direct++;
      return call;
    },
  };
}

function begin(wire: Wire, request: CallRequest, settings: LeanSettings): UnaryCall | StreamCall {
  return request.method.streams
    ? new StreamCall(wire, request, settings)
    : new UnaryCall(wire, request, settings);
}

/** Whether a host makes a valid URL. Clients name the same few again and again. */
function createHostCheck(): (host: string | undefined) => boolean {
  const valid = new Set<string>();
  return (host) => {
    if (host === undefined) return false;
    if (valid.has(host)) return true;
    if (!/^[\w.-]+(?::\d+)?$|^\[[\da-f:.]+\](?::\d+)?$/i.test(host)) return false;
    if (!URL.canParse(`http://${host}`) || !URL.canParse(`https://${host}`)) return false;
    if (valid.size < 1_000) valid.add(host);
    return true;
  };
}
