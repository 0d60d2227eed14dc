import type { ConnectNodeAdapterOptions } from "@connectrpc/connect-node";

/** Answers a request of HTTP/1.1 or HTTP/2. */
export type HttpHandler = NonNullable<ConnectNodeAdapterOptions["fallback"]>;

/** A request of HTTP/1.1 or HTTP/2. */
export type HttpRequest = Parameters<HttpHandler>[0];

/** The response to an {@link HttpRequest}. */
export type HttpResponse = Parameters<HttpHandler>[1];
