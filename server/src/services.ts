import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { authHandlers } from "./auth/handlers.ts";
import type { Context } from "./context.ts";
import { functionHandlers } from "./functions/handlers.ts";
import { invocationHandlers } from "./functions/invocations/handlers.ts";
import { logHandlers } from "./functions/logs/handlers.ts";
import { Health } from "./gen/grpc/health/v1/health_pb.js";
import { ServerReflection as ServerReflectionV1 } from "./gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionV1Alpha } from "./gen/grpc/reflection/v1alpha/reflection_pb.js";
import { LogsService as OtlpLogsService } from "./gen/opentelemetry/proto/collector/logs/v1/logs_service_pb.js";
import { MetricsService as OtlpMetricsService } from "./gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.js";
import { AuthService } from "./gen/pulsewire/auth/v1/auth_service_pb.js";
import { FunctionsService } from "./gen/pulsewire/functions/v1/functions_service_pb.js";
import { IngestionService } from "./gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "./gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { ProgressService } from "./gen/pulsewire/progress/v1/progress_service_pb.js";
import { WebhooksService } from "./gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { ingestionHandlers } from "./ingestion/handlers.ts";
import { metricsHandlers } from "./metrics/handlers.ts";
import { otlpLogsHandlers, otlpMetricsHandlers } from "./metrics/standards/otlp.ts";
import { reflectionRoutes } from "./ops/reflection.ts";
import { progressHandlers } from "./progress/handlers.ts";
import type { CallRegistry } from "./rest/calls.ts";
import { withRequestIds } from "./rpc/idempotency.ts";
import { webhooksHandlers } from "./webhooks/handlers.ts";

/** The six services of the contract. */
export const contractServices = [
  AuthService,
  IngestionService,
  MetricsService,
  FunctionsService,
  ProgressService,
  WebhooksService,
] as const;

/** All services of the port, the standard ones included. */
export const allServices: readonly DescService[] = [
  ...contractServices,
  OtlpMetricsService,
  OtlpLogsService,
  Health,
  ServerReflectionV1,
  ServerReflectionV1Alpha,
];

/** Registers all services with the wires and for calls of REST; methods without a handler answer UNIMPLEMENTED. */
export function registerServices(router: ConnectRouter, calls: CallRegistry, context: Context): void {
  const { config, db, keyring, logger } = context;
  const once = { db, logger, settings: config.idempotency };
  const serve = <S extends DescService>(service: S, handlers: Partial<ServiceImpl<S>>) => {
    const implementation = withRequestIds(service, handlers, once, keyring);
    router.service(service, implementation);
    calls.service(service, implementation);
  };
  serve(AuthService, authHandlers(context));
  serve(IngestionService, ingestionHandlers(context));
  serve(MetricsService, metricsHandlers(context));
  serve(FunctionsService, {
    ...functionHandlers(context),
    ...invocationHandlers(context),
    ...logHandlers(context),
  });
  serve(ProgressService, progressHandlers(context));
  serve(WebhooksService, webhooksHandlers(context));
  for (const registry of [router, calls]) {
    registry.service(OtlpMetricsService, otlpMetricsHandlers(context));
    registry.service(OtlpLogsService, otlpLogsHandlers(context));
  }
  context.health.routes(router);
  reflectionRoutes(router, [...contractServices, OtlpMetricsService, OtlpLogsService, Health]);
}
