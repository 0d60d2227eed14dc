import { baseUrlOf, type ClientOptions } from "./client-options.ts";
import { Gateway } from "./gateway.ts";
import type { GatewayOptions } from "./gateway-options.ts";
import { createCaller } from "./unary/caller.ts";
import { fetchExchange } from "./unary/fetch-exchange.ts";
import { connect, grpcWeb } from "./unary/protocols.ts";

/** Options of {@link createClient} in browsers and on edge runtimes. */
export interface WebClientOptions extends ClientOptions {
  /** What is spoken over fetch. Default `connect`. */
  protocol?: "connect" | "grpc-web";
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
