import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { assembleClient, type PulsewireClient } from "./client.ts";
import { baseUrlOf, type ClientOptions } from "./client-options.ts";
import { fetchUnbroken } from "./fetch-unbroken.ts";
import { Gateway } from "./gateway.ts";
import type { GatewayOptions } from "./gateway-options.ts";
import { createCaller } from "./unary/caller.ts";
import { fetchExchange } from "./unary/fetch-exchange.ts";
import { connect, grpcWeb } from "./unary/protocols.ts";

export * from "./shared.ts";

/** Options of {@link createClient} in browsers and on edge runtimes. */
export interface WebClientOptions extends ClientOptions {
  /** What is spoken over fetch. Default `connect`. */
  protocol?: "connect" | "grpc-web";
}

/**
 * Makes a client over fetch.
 *
 * @throws TypeError where the endpoint is no address or several kinds of credentials are given
 */
export function createClient(options: WebClientOptions): PulsewireClient {
  const baseUrl = baseUrlOf(options.endpoint);
  const create = options.protocol === "grpc-web" ? createGrpcWebTransport : createConnectTransport;
  const closed = new AbortController();
  return assembleClient(options, {
    transport: (interceptors) =>
      create({
        baseUrl,
        interceptors,
        useBinaryFormat: true,
        fetch: (input, init) => fetchUnbroken(input, init, closed.signal),
      }),
    close: () => closed.abort(),
  });
}

/** Makes a gateway with a connection of its own, which is closed with it. Throws as {@link createClient}. */
export function createGateway(options: WebClientOptions & GatewayOptions): Gateway {
  const caller = createCaller({
    ...options,
    exchange: fetchExchange(baseUrlOf(options.endpoint)),
    protocol: options.protocol === "grpc-web" ? grpcWeb : connect,
  });
  return new Gateway(caller, options);
}
