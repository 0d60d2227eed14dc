import { Code, ConnectError } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { assembleClient, type PulsewireClient } from "./client.ts";
import { baseUrlOf, maxResponseBytes } from "./client-options.ts";
import { compressFast } from "./gzip.ts";
import { type NodeClientOptions, unknownProtocol, watch } from "./node-options.ts";
import { Sessions } from "./sessions.ts";

/**
 * Makes a client over one HTTP/2 connection, which is opened at the first call and again when it breaks.
 * An idle connection does not keep the process running.
 *
 * @throws TypeError where the endpoint is no address or several kinds of credentials are given
 */
export function createClient(options: NodeClientOptions): PulsewireClient {
  const baseUrl = baseUrlOf(options.endpoint);
  const sessionManager = new Sessions(baseUrl, watch, options.nodeOptions);
  return assembleClient(options, {
    transport: (interceptors) => {
      const compression = options.compression === "gzip" && {
        sendCompression: { ...compressionGzip, compress: compressFast },
      };
      const shared = {
        baseUrl,
        sessionManager,
        interceptors,
        readMaxBytes: maxResponseBytes,
        ...compression,
      };
      switch (options.protocol ?? "grpc") {
        case "grpc":
          return createGrpcTransport(shared);
        case "grpc-web":
          return createGrpcWebTransport({ ...shared, httpVersion: "2" });
        case "connect":
          return createConnectTransport({ ...shared, httpVersion: "2", useBinaryFormat: true });
        default:
          throw unknownProtocol(options.protocol);
      }
    },
    close: () => sessionManager.abort(new ConnectError("The client was closed.", Code.Canceled)),
  });
}
