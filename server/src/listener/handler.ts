import type { Http2ServerRequest } from "node:http2";
import type { DescMethod, Registry } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ContextValues,
  createConnectRouter,
  createMethodImplSpec,
  createServiceImplSpec,
  type MethodImplSpec,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import { forConnect, type Interceptor } from "../rpc/interceptor.ts";
import type { AmendError } from "./amend-errors.ts";
import { callConnect } from "./connect-path.ts";
import { endStreamsOnShutdown, shutdownError } from "./draining.ts";
import type { HttpHandler, HttpRequest } from "./http.ts";
import type { Codec } from "./lean/method.ts";
import { createLeanPath, type LeanPath, type Peer } from "./lean/path.ts";
import { type ListenerLimits, listenerLimits } from "./limits.ts";
import { looksLikeRpc, refuseUnfit, refuseUnknown } from "./refusals.ts";
import { allowLongBody } from "./requests.ts";
import { writeError } from "./write-error.ts";

const compressions = [compressionGzip, compressionBrotli];

export interface RpcHandlerOptions {
  /** Registers the services. */
  routes: (router: ConnectRouter) => void;
  /** Run around every call, the first one outermost. */
  interceptors?: readonly Interceptor[];
  /** Once aborted, new calls are refused and open streams end; see `drainingError`. */
  shutdownSignal: AbortSignal;
  /** Departures from {@link listenerLimits}. */
  limits?: Partial<ListenerLimits>;
  /** Answers what is no call: health probes, REST, pages. */
  fallback: HttpHandler;
  /** Fills the values of a call in, from what is known before it begins. */
  prepare?: (values: ContextValues, peer: Peer) => void;
  /** Gives the errors of the protocol library the form that the service promises. */
  amendError?: AmendError;
  /** Types that may stand inside google.protobuf.Any in JSON. */
  registry?: Registry;
  /**
   * How messages of unary methods are read and written on the lean path, in place of the library: the handler gets what the
   * codec has read. On the other path it gets the usual message. A codec that has checked the rules of the contract says so
   * with `markValidated`.
   */
  codecs?: ReadonlyMap<DescMethod, Codec>;
  logger: Logger;
}

/** What answers requests. */
export interface RpcHandler {
  /** Answers any request: calls in gRPC, gRPC-Web or Connect, and the fallback for the rest. */
  readonly handler: HttpHandler;
  /** Takes most calls before the handler sees them. */
  readonly lean: LeanPath;
}

/** Creates what answers requests on the two paths. */
export function createRpcHandler(options: RpcHandlerOptions): RpcHandler {
  const { fallback, shutdownSignal, logger } = options;
  const limits: ListenerLimits = { ...listenerLimits, ...options.limits };
  const amend = options.amendError ?? ((error) => error);
  const jsonOptions = { ignoreUnknownFields: false, ...(options.registry && { registry: options.registry }) };
  // Innermost, so that the others see how a stream really ends.
  const interceptors = [...(options.interceptors ?? []), endStreamsOnShutdown(shutdownSignal)];
  const router = createConnectRouter({
    acceptCompression: compressions,
    readMaxBytes: limits.readMaxBytes,
    writeMaxBytes: limits.writeMaxBytes,
    compressMinBytes: limits.compressMinBytes,
    maxTimeoutMs: limits.maxTimeoutMs,
    jsonOptions,
    interceptors: [forConnect(interceptors)],
  });
  const specs: MethodImplSpec[] = [];
  options.routes(alsoInto(router, specs));
  const lean = createLeanPath({
    methods: specs,
    interceptors,
    compressions,
    limits,
    jsonOptions,
    amend,
    shutdownSignal,
    prepare: options.prepare,
    codecs: options.codecs,
    logger,
  });
  const methods = new Map<string, UniversalHandler>(router.handlers.map((h) => [h.requestPath, h]));

  function dispatch(...[req, res]: Parameters<HttpHandler>): void {
    const url = req.url ?? "";
    const query = url.indexOf("?");
    const path = query === -1 ? url : url.slice(0, query);
    const method = methods.get(path);
    if (method === undefined && !looksLikeRpc(path, req.headers["content-type"])) {
      fallback(req, res);
      return;
    }
    if (shutdownSignal.aborted) {
      writeError(req, res, shutdownError(shutdownSignal));
      return;
    }
    if (method === undefined) {
      const refusal = refuseUnknown(path, methods);
      writeError(req, res, refusal.error, refusal.options);
      return;
    }
    const refusal = refuseUnfit(req, method, compressions);
    if (refusal !== undefined) {
      writeError(req, res, refusal.error, refusal.options);
      return;
    }
    const kind = method.method.methodKind;
    if (kind === "client_streaming" || kind === "bidi_streaming") allowLongBody(req);
    callConnect(method, req, res, options.prepare, limits.lingerTimeoutMs, amend).catch((error: unknown) => {
      logger.debug({ err: error, path }, "call ended without a whole answer");
      if (res.headersSent || res.destroyed || isGone(req)) return;
      // connect-node takes the host for granted; anything else that fails before it answers is our fault.
      const host = req.headers.host ?? req.headers[":authority"];
      const failed =
        typeof host === "string" && URL.canParse(`http://${host}`)
          ? new ConnectError("internal error", Code.Internal)
          : new ConnectError(
              `the request names no valid host: ${req.headers.host ?? "none"}`,
              Code.InvalidArgument,
            );
      if (failed.code === Code.Internal) logger.error({ err: error, path }, "call failed without an answer");
      writeError(req, res, failed);
    });
  }
  return { handler: dispatch, lean };
}

/** Whether the stream that a request of HTTP/2 came on is closed. */
function isGone(req: HttpRequest): boolean {
  return "stream" in req && (req as Http2ServerRequest).stream.destroyed;
}

/** A router that notes what is registered for the lean path, too. */
function alsoInto(router: ConnectRouter, specs: MethodImplSpec[]): ConnectRouter {
  const both: ConnectRouter = {
    handlers: router.handlers,
    service(service, implementation, options) {
      specs.push(...Object.values(createServiceImplSpec(service, implementation).methods));
      router.service(service, implementation, options);
      return both;
    },
    rpc(method, implementation, options) {
      specs.push(createMethodImplSpec(method, implementation));
      router.rpc(method, implementation, options);
      return both;
    },
  };
  return both;
}
