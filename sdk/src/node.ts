import type { SecureClientSessionOptions } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import {
  assembleClient,
  assembleGatewayClient,
  baseUrlOf,
  type ClientOptions,
  type Connection,
  maxResponseBytes,
  type PulsewireClient,
} from "./client.ts";
import { type CloseOnExitOptions, closeOnExit } from "./exit-hooks.ts";
import { Gateway } from "./gateway.ts";
import type { GatewayOptions } from "./gateway-options.ts";
import { fastGzip } from "./gzip.ts";
import { withLeanIngest } from "./lean-ingest.ts";
import { Sessions } from "./sessions.ts";
import type { SpoolOptions } from "./spool/spool.ts";
import { openStore } from "./spool/store.ts";

/** Options of {@link createClient} on Node. */
export interface NodeClientOptions extends ClientOptions {
  /** What is spoken; always over HTTP/2, in clear text with `http:`. Default `grpc`. */
  protocol?: "grpc" | "connect" | "grpc-web";
  /** How requests of more than 1 KiB are compressed. Default: `gzip` for a gateway, `none` for a client. */
  compression?: "gzip" | "none";
  /** Options of http2.connect(), such as `ca` for a certificate of your own. */
  nodeOptions?: SecureClientSessionOptions;
}

/** A connection that carries a call is asked for a sign of life this often, in milliseconds … */
const pingIntervalMs = 20_000;
/** … and given up when it does not answer within this time. */
const pingTimeoutMs = 10_000;

/**
 * Makes a client over one HTTP/2 connection, which is opened at the first call and again when it breaks.
 * An idle connection does not keep the process running.
 *
 * @throws TypeError where the endpoint is no address or several kinds of credentials are given
 */
export function createClient(options: NodeClientOptions): PulsewireClient {
  return assembleClient(options, connect(options));
}

function connect(options: NodeClientOptions): Connection {
  const baseUrl = baseUrlOf(options.endpoint);
  const sessionManager = new Sessions(baseUrl, { pingIntervalMs, pingTimeoutMs }, options.nodeOptions);
  return {
    transport: (interceptors) => {
      const compression = options.compression === "gzip" && { sendCompression: fastGzip };
      const shared = {
        baseUrl,
        sessionManager,
        interceptors,
        readMaxBytes: maxResponseBytes,
        ...compression,
      };
      switch (options.protocol ?? "grpc") {
        case "grpc":
          return withLeanIngest(createGrpcTransport(shared), shared);
        case "grpc-web":
          return createGrpcWebTransport({ ...shared, httpVersion: "2" });
        case "connect":
          return createConnectTransport({ ...shared, httpVersion: "2", useBinaryFormat: true });
        default:
          throw new TypeError(`The protocol "${options.protocol}" is none of grpc, connect and grpc-web.`);
      }
    },
    close: () => sessionManager.abort(new ConnectError("The client was closed.", Code.Canceled)),
  };
}

/** Options of {@link createGateway} on Node. */
export interface NodeGatewayOptions extends NodeClientOptions, GatewayOptions {
  /**
   * Keeps what is not delivered in a directory, so that it outlives the process. Then nothing is too much for the
   * memory, and `whenFull` holds only while the disk takes nothing. Default: none.
   */
  spool?: SpoolOptions;
  /** Closes it with the process: at SIGTERM and SIGINT, and when nothing more is to do. Default: that is the program's. */
  closeOnExit?: boolean | CloseOnExitOptions;
}

/**
 * Makes a gateway with a connection of its own, which is closed with it.
 *
 * @throws as {@link createClient}; SpoolLockedError where the spool is in use; what the file system says where the
 * spool's directory cannot be made
 */
export function createGateway(options: NodeGatewayOptions): Gateway {
  const client = assembleGatewayClient(options, connect({ compression: "gzip", ...options }));
  try {
    let ended = () => {};
    const store = options.spool && openStore(options.spool, options.highPriority);
    const gateway = new Gateway(client, options, store, () => ended());
    const { closeOnExit: hooks } = options;
    if (hooks) ended = closeOnExit(gateway, hooks === true ? {} : hooks);
    return gateway;
  } catch (error) {
    client.close();
    throw error;
  }
}
