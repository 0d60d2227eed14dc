import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import {
  assembleClient,
  assembleGatewayClient,
  baseUrlOf,
  type ClientOptions,
  type Connection,
  type PulsewireClient,
} from "./client.ts";
import { fetchUnbroken } from "./fetch-unbroken.ts";
import { Gateway } from "./gateway.ts";
import type { GatewayOptions } from "./gateway-options.ts";

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
  return assembleClient(options, connect(options));
}

/** Makes a gateway with a connection of its own, which is closed with it. Throws as {@link createClient}. */
export function createGateway(options: WebClientOptions & GatewayOptions): Gateway {
  return new Gateway(assembleGatewayClient(options, connect(options)), options);
}

function connect(options: WebClientOptions): Connection {
  const baseUrl = baseUrlOf(options.endpoint);
  const create = options.protocol === "grpc-web" ? createGrpcWebTransport : createConnectTransport;
  const closed = new AbortController();
  return {
    transport: (interceptors) =>
      create({
        baseUrl,
        interceptors,
        useBinaryFormat: true,
        fetch: (input, init) => fetchUnbroken(input, init, closed.signal),
      }),
    close: () => closed.abort(),
  };
}
