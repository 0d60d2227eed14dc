import type { Registry } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ContextValues,
  createConnectRouter,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import type { AmendError } from "./amend-errors.ts";
import { callConnect } from "./connect-path.ts";
import { endStreamsOnShutdown, shutdownError } from "./draining.ts";
import type { HttpHandler, HttpRequest } from "./http.ts";
import { type ListenerLimits, listenerLimits } from "./limits.ts";
import { looksLikeRpc, refuseUnfit, refuseUnknown } from "./refusals.ts";
import { allowLongBody } from "./requests.ts";
import { writeError } from "./write-error.ts";

const compressions = [compressionGzip, compressionBrotli];

export interface RpcHandlerOptions {
  /** Registers the services. */
  routes: (router: ConnectRouter) => void;
  /** Run around every call, the first one outermost. */
  interceptors?: Interceptor[];
  /** Once aborted, new calls are refused and open streams end; see `drainingError`. */
  shutdownSignal: AbortSignal;
  /** Departures from {@link listenerLimits}. */
  limits?: Partial<ListenerLimits>;
  /** Answers what is no call: health probes, REST, pages. */
  fallback: HttpHandler;
  /** Makes the context values of a call from its request. */
  contextValues?: (req: HttpRequest) => ContextValues;
  /** Gives the errors of the protocol library the form that the service promises. */
  amendError?: AmendError;
  /** Types that may stand inside google.protobuf.Any in JSON. */
  registry?: Registry;
  logger: Logger;
}

/** Creates the function that answers every request: calls in gRPC, gRPC-Web or Connect, and the fallback for the rest. */
export function createRpcHandler(options: RpcHandlerOptions): HttpHandler {
  const { fallback, shutdownSignal, logger } = options;
  const limits: ListenerLimits = { ...listenerLimits, ...options.limits };
  const router = createConnectRouter({
    acceptCompression: compressions,
    readMaxBytes: limits.readMaxBytes,
    writeMaxBytes: limits.writeMaxBytes,
    compressMinBytes: limits.compressMinBytes,
    maxTimeoutMs: limits.maxTimeoutMs,
    jsonOptions: { ignoreUnknownFields: false, ...(options.registry && { registry: options.registry }) },
    // Innermost, so that the others see how a stream really ends.
    interceptors: [...(options.interceptors ?? []), endStreamsOnShutdown(shutdownSignal)],
  });
  options.routes(router);
  const methods = new Map<string, UniversalHandler>(router.handlers.map((h) => [h.requestPath, h]));

  return function dispatch(req, res) {
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
    const amend = options.amendError ?? ((error) => error);
    callConnect(method, req, res, options.contextValues, limits.lingerTimeoutMs, amend).catch(
      (error: unknown) => {
        logger.debug({ err: error, path }, "call ended without a whole answer");
        if (res.headersSent || res.destroyed) return;
        // connect-node takes the host for granted; anything else that fails before it answers is our fault.
        const host = req.headers.host ?? req.headers[":authority"];
        const failed =
          typeof host === "string" && URL.canParse(`http://${host}`)
            ? new ConnectError("internal error", Code.Internal)
            : new ConnectError(
                `the request names no valid host: ${req.headers.host ?? "none"}`,
                Code.InvalidArgument,
              );
        if (failed.code === Code.Internal)
          logger.error({ err: error, path }, "call failed without an answer");
        writeError(req, res, failed);
      },
    );
  };
}
