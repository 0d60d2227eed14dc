import type { SecureClientSessionOptions } from "node:http2";
import type { ClientOptions } from "./client-options.ts";

/** Options of {@link createClient} on Node. */
export interface NodeClientOptions extends ClientOptions {
  /** What is spoken; always over HTTP/2, in clear text with `http:`. Default `grpc`. */
  protocol?: "grpc" | "connect" | "grpc-web";
  /** How requests of more than 1 KiB are compressed. Default: `gzip` for a gateway, `none` for a client. */
  compression?: "gzip" | "none";
  /** Options of http2.connect(), such as `ca` for a certificate of your own. */
  nodeOptions?: SecureClientSessionOptions;
}

/** How connections are watched. */
export const watch = { pingIntervalMs: 20_000, pingTimeoutMs: 10_000 };

export function unknownProtocol(protocol: unknown): TypeError {
  return new TypeError(`The protocol "${protocol}" is none of grpc, connect and grpc-web.`);
}
