import { explainBroken } from "./broken-connection.ts";
import { baseUrlOf, maxResponseBytes } from "./client-options.ts";
import { Code } from "./code.ts";
import { PulsewireError } from "./errors.ts";
import { type CloseOnExitOptions, closeOnExit } from "./exit-hooks.ts";
import { Gateway } from "./gateway.ts";
import type { GatewayOptions } from "./gateway-options.ts";
import { compressPieces, decompressAnswer } from "./gzip.ts";
import { type NodeClientOptions, unknownProtocol, watch } from "./node-options.ts";
import type { SpoolOptions } from "./spool/spool.ts";
import { openStore } from "./spool/store.ts";
import { createCaller, type UnaryCaller } from "./unary/caller.ts";
import { Http2Connection } from "./unary/http2-connection.ts";
import { http2Exchange } from "./unary/http2-exchange.ts";
import { connect, grpc, grpcWeb, type Protocol } from "./unary/protocols.ts";

const protocols: Readonly<Record<string, Protocol>> = { grpc, connect, "grpc-web": grpcWeb };

function createNodeCaller(options: NodeClientOptions): UnaryCaller {
  const { protocol: name = "grpc", compression = "gzip" } = options;
  const protocol = protocols[name];
  if (!protocol) throw unknownProtocol(name);
  const baseUrl = baseUrlOf(options.endpoint);
  const connection = new Http2Connection(new URL(baseUrl).origin, watch, options.nodeOptions);
  return createCaller({
    ...options,
    exchange: http2Exchange(baseUrl, connection, maxResponseBytes),
    protocol,
    compress: compression === "gzip" ? compressPieces : undefined,
    decompress: decompressAnswer,
    explain: explainBroken,
    close: () =>
      connection.close(new PulsewireError({ code: Code.Canceled, message: "The client was closed." })),
  });
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
  const caller = createNodeCaller(options);
  try {
    let ended = () => {};
    const store = options.spool && openStore(options.spool, options.highPriority);
    const gateway = new Gateway(caller, options, store, () => ended());
    const { closeOnExit: hooks } = options;
    if (hooks) ended = closeOnExit(gateway, hooks === true ? {} : hooks);
    return gateway;
  } catch (error) {
    caller.close();
    throw error;
  }
}
