/** The server's life: create, start, drain, destroy. */
import { createRegistry, type DescMethod } from "@bufbuild/protobuf";
import type { ContextValues } from "@connectrpc/connect";
import { auditKinds } from "./auth/audit/methods.ts";
import { jwksHandler } from "./auth/signing-keys/jwks.ts";
import type { Context } from "./context.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { MetricsService } from "./gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { ingestionCodecs } from "./ingestion/wire.ts";
import { startWorkers, type Worker } from "./jobs/workers.ts";
import { withCors } from "./listener/cors.ts";
import { drainingError, endStreamsOnShutdown } from "./listener/draining.ts";
import { createRpcHandler } from "./listener/handler.ts";
import type { Codec } from "./listener/lean/method.ts";
import type { Peer } from "./listener/lean/path.ts";
import { createListener, type ListenerAddress } from "./listener/port.ts";
import { createStandards } from "./metrics/standards/http.ts";
import { countCallsInterceptor } from "./metrics/usage/usage.ts";
import { readWireRequest } from "./metrics/wire-samples.ts";
import { callMetricsInterceptor, countedByRestKey } from "./ops/call-metrics.ts";
import { answerNotFound } from "./ops/not-found.ts";
import { progressCodecs } from "./progress/wire.ts";
import { createCalls } from "./rest/calls.ts";
import { createDocs } from "./rest/docs.ts";
import { createRestHandler } from "./rest/handler.ts";
import { openApiDocument } from "./rest/openapi/document.ts";
import { accessTable } from "./rpc/access.ts";
import { auditCalls, auditRefusals } from "./rpc/audit.ts";
import { authenticateInterceptor } from "./rpc/authenticate.ts";
import { authorizeInterceptor } from "./rpc/authorize.ts";
import { clientAddressKey, createClientAddress } from "./rpc/client-address.ts";
import { errorsInterceptor, explainProtocolError } from "./rpc/errors.ts";
import type { Interceptor } from "./rpc/interceptor.ts";
import { limitAddressInterceptor, limitCallerInterceptor, methodsLimitedByAddress } from "./rpc/limit.ts";
import { logInterceptor } from "./rpc/log.ts";
import { suspensionInterceptor } from "./rpc/suspension.ts";
import { traceInterceptor } from "./rpc/trace.ts";
import { validateInterceptor } from "./rpc/validate.ts";
import { allServices, contractServices, registerServices } from "./services.ts";

export interface Server {
  /** Listens, prepares what needs the address, says that it is ready, and resolves with the address. */
  start(prepare?: (address: ListenerAddress) => Promise<void>): Promise<ListenerAddress>;
  /**
   * Shuts down in good order: not ready any more, new calls refused, streams ended with DRAINING, running calls
   * finished, then everything closed. What runs after `drainTimeoutMs` is cut off.
   */
  drain(): Promise<void>;
  /** Closes everything at once. */
  destroy(): Promise<void>;
}

/** The interceptors of every call, outermost first. */
export function interceptorsOf(context: Context): Interceptor[] {
  const { config, logger, credentials, publicCaller, rateWindows, tenantSettings, auditLog, usage } = context;
  const rules = accessTable(allServices);
  const audited = auditKinds(contractServices);
  return [
    traceInterceptor,
    callMetricsInterceptor(context.callMetrics),
    logInterceptor(logger),
    errorsInterceptor(logger),
    limitAddressInterceptor(
      rateWindows,
      methodsLimitedByAddress(rules),
      config.auth.callsPerMinute,
      config.countedCallers,
    ),
    auditRefusals(auditLog, audited),
    authenticateInterceptor(credentials),
    limitCallerInterceptor(rateWindows, tenantSettings, config.countedCallers),
    authorizeInterceptor(rules, publicCaller),
    suspensionInterceptor(tenantSettings),
    countCallsInterceptor(usage),
    validateInterceptor,
    auditCalls(auditLog, audited),
  ];
}

/** Puts the listener on top of a context, which it closes in the end. */
export function createServer(context: Context): Server {
  const { config, logger, health, shutdown, prometheus, callMetrics } = context;
  const limits = { readMaxBytes: config.maxMessageBytes };
  const clientAddress = createClientAddress(config);
  const answerJwks = jwksHandler(context.signingKeys, config.auth.signingKeyLeadMs);
  const interceptors = interceptorsOf(context);
  const prepare = (values: ContextValues, peer: Peer) =>
    void values.set(clientAddressKey, clientAddress(peer));
  const registry = createRegistry(BadRequestSchema, ErrorInfoSchema, RetryInfoSchema);
  const answers = config.role !== "worker";
  const calls = createCalls({
    interceptors: [...interceptors, endStreamsOnShutdown(shutdown.signal)],
    prepare(values, peer) {
      prepare(values, peer);
      values.set(countedByRestKey, true);
    },
  });
  const answerRest = createRestHandler({
    services: answers ? contractServices : [],
    calls,
    shutdownSignal: shutdown.signal,
    registry,
    maxBodyBytes: limits.readMaxBytes,
    // OTLP.
    alsoTaken: new Map([["/v1/metrics", "POST"]]),
    logger,
    observe: callMetrics.observe,
  });
  const answerStandards = createStandards(context, calls);
  const answerDocs = createDocs(() => openApiDocument(contractServices, accessTable(contractServices)));
  const { handler, lean } = createRpcHandler({
    routes(router) {
      if (answers) registerServices(router, calls, context);
      else context.health.routes(router);
    },
    interceptors,
    prepare,
    codecs: new Map<DescMethod, Codec>([
      ...ingestionCodecs(context.events),
      ...progressCodecs,
      [MetricsService.method.writeSamples, { readProto: readWireRequest }],
    ]),
    shutdownSignal: shutdown.signal,
    limits,
    amendError: explainProtocolError(limits),
    registry,
    fallback(req, res) {
      if (
        health.answerHealth(req, res) ||
        prometheus.answerMetrics(req, res) ||
        answerJwks(req, res) ||
        (answers && answerStandards(req, res)) ||
        answerRest(req, res) ||
        answerDocs(req, res)
      )
        return;
      answerNotFound(req, res);
    },
    logger,
  });
  const listener = createListener({
    handler: withCors(config.corsOrigins, handler),
    lean,
    limits,
    logger,
    ...(context.tls && { tls: context.tls }),
  });
  let workers: Worker | undefined;
  return {
    async start(prepare) {
      const address = await listener.listen({ host: config.host, port: config.port });
      await prepare?.(address);
      if (config.role !== "api") workers = startWorkers(context);
      for (const service of ["", ...contractServices.map(({ typeName }) => typeName)])
        health.set(service, "SERVING");
      return address;
    },
    async drain() {
      health.shutdown();
      shutdown.abort(drainingError());
      await listener.drain(config.drainTimeoutMs);
      await workers?.close();
      await context.close();
    },
    async destroy() {
      health.shutdown();
      shutdown.abort(drainingError());
      await listener.destroy();
      await workers?.close();
      await context.close();
    },
  };
}
