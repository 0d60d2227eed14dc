import type { Client, Interceptor, Transport } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { type CallContext, createServiceClient } from "./calls.ts";
import { authenticate, type Credentials } from "./credentials.ts";
import { EventBatchService, eventBatches } from "./event-batches.ts";
import { AuthService } from "./gen/pulsewire/auth/v1/auth_service_pb.js";
import { FunctionsService } from "./gen/pulsewire/functions/v1/functions_service_pb.js";
import { IngestionService } from "./gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "./gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { ProgressService } from "./gen/pulsewire/progress/v1/progress_service_pb.js";
import { WebhooksService } from "./gen/pulsewire/webhooks/v1/webhooks_service_pb.js";

/** What every client needs. */
export interface ClientOptions extends Credentials {
  /** Where the server is, such as `http://localhost:8080` or `https://pulsewire.example/prefix`. */
  endpoint: string;
  /** Deadline of each unary call in milliseconds; a call's own `timeoutMs` goes before. Default 10,000. */
  timeoutMs?: number;
  /** Sent with every call, such as `{ "x-request-id": "…" }`. */
  headers?: Record<string, string>;
}

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
  /** @internal For gateways. */
  readonly [eventBatches]: Client<typeof EventBatchService>;
  /** Ends what is running with code `Canceled` and gives connections back, so that the process can end. */
  close(): void;
}

/** What of a client a gateway needs. */
export type GatewayClient = Pick<PulsewireClient, "metrics" | "progress" | typeof eventBatches | "close">;

/** Most bytes that one answer may have: 64 MiB. */
export const maxResponseBytes = 64 * 1024 * 1024;

/** Deadline of a unary call where none is given, in milliseconds. */
const defaultTimeoutMs = 10_000;

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
    [eventBatches]: createServiceClient(EventBatchService, calls),
    close,
    [Symbol.dispose]: close,
  };
}

/** Puts together what a gateway needs and no more: in a browser the other services would be dead weight. */
export function assembleGatewayClient(options: ClientOptions, connection: Connection): GatewayClient {
  const calls = openCalls(options, connection);
  return {
    metrics: createServiceClient(MetricsService, calls),
    progress: createServiceClient(ProgressService, calls),
    [eventBatches]: createServiceClient(EventBatchService, calls),
    close: calls.close,
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

/**
 * The endpoint as transports want it.
 *
 * @throws TypeError where it is no http or https address
 */
export function baseUrlOf(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw new TypeError(
      `The endpoint "${endpoint}" is no address such as http://localhost:8080 or https://example.com.`,
    );
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}
