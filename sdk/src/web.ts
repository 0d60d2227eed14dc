import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { assembleClient, type PulsewireClient } from "./client.ts";
import { baseUrlOf } from "./client-options.ts";
import { fetchUnbroken } from "./fetch-unbroken.ts";
import type { WebClientOptions } from "./web-gateway.ts";

export * from "./shared.ts";
export { createGateway, type WebClientOptions } from "./web-gateway.ts";

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
