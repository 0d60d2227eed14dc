import type { Client, Interceptor, Transport } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { authenticate } from "./authenticate.ts";
import { type CallContext, createServiceClient } from "./calls.ts";
import { type ClientOptions, defaultTimeoutMs } from "./client-options.ts";
import { AuthService } from "./gen/pulsewire/auth/v1/auth_service_pb.js";
import { FunctionsService } from "./gen/pulsewire/functions/v1/functions_service_pb.js";
import { IngestionService } from "./gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "./gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { ProgressService } from "./gen/pulsewire/progress/v1/progress_service_pb.js";
import { WebhooksService } from "./gen/pulsewire/webhooks/v1/webhooks_service_pb.js";

/** Typed clients of all services over one connection. Their calls reject with PulsewireError. */
export interface PulsewireClient extends Disposable {
  /** Tenants, people, API keys, sessions. */
  readonly auth: Client<typeof AuthService>;
  /** Events. */
  readonly ingestion: Client<typeof IngestionService>;
  /** Stores, samples, alerts, usage. */
  readonly metrics: Client<typeof MetricsService>;
  /** Container functions. */
  readonly functions: Client<typeof FunctionsService>;
  /** Progress of files. */
  readonly progress: Client<typeof ProgressService>;
  /** Webhooks. */
  readonly webhooks: Client<typeof WebhooksService>;
  /** Ends what is running with code `Canceled` and gives connections back, so that the process can end. */
  close(): void;
}

/** What differs between Node and browsers. */
export interface Connection {
  /** A transport over the connection, with these interceptors. */
  transport(interceptors: Interceptor[]): Transport;
  /** Gives the connection back. */
  close(): void;
}

/** Puts a client together. */
export function assembleClient(options: ClientOptions, connection: Connection): PulsewireClient {
  const calls = openCalls(options, connection);
  const { close } = calls;
  return {
    auth: createServiceClient(AuthService, calls),
    ingestion: createServiceClient(IngestionService, calls),
    metrics: createServiceClient(MetricsService, calls),
    functions: createServiceClient(FunctionsService, calls),
    progress: createServiceClient(ProgressService, calls),
    webhooks: createServiceClient(WebhooksService, calls),
    close,
    [Symbol.dispose]: close,
  };
}

function openCalls(options: ClientOptions, connection: Connection): CallContext & { close(): void } {
  const { headers = {}, timeoutMs = defaultTimeoutMs } = options;
  const closed = new AbortController();
  // Async, because Connect leaves the deadline's timer running when an interceptor throws instead of rejecting.
  const common: Interceptor = (next) => async (request) => {
    if (closed.signal.aborted) throw new ConnectError("The client is closed.", Code.Canceled);
    for (const [name, value] of Object.entries(headers)) request.header.set(name, value);
    return next(request);
  };
  return {
    transport: connection.transport([common, authenticate(options, connection.transport([common]))]),
    timeoutMs,
    closed: closed.signal,
    close() {
      closed.abort();
      connection.close();
    },
  };
}
