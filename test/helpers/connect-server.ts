import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

/** A server of a test's own, on a real socket. */
export interface ConnectServer extends AsyncDisposable {
  /** Where it is, such as `http://127.0.0.1:41234`. */
  url: string;
  port: number;
  /** Cuts all connections; what was being answered is lost. */
  cut(): void;
  /** Cuts all connections and listens no more. */
  stop(): Promise<void>;
}

/** Options of {@link startConnectServer}. */
export interface ConnectServerOptions {
  routes(router: ConnectRouter): void;
  /** Default: any free one. */
  port?: number;
  /** Default: HTTP/2 in clear text. */
  http1?: boolean;
  /** Answers a request in place of the routes where it returns true. */
  intercept?(request: http2.Http2ServerRequest, response: http2.Http2ServerResponse): boolean;
}

/** Starts a Connect server for tests that need faults a good server does not make. */
export async function startConnectServer(options: ConnectServerOptions): Promise<ConnectServer> {
  const { routes, port = 0, http1 = false, intercept = () => false } = options;
  const handler = connectNodeAdapter({ routes });
  const server = http1
    ? http.createServer(handler)
    : http2.createServer((request, response) => {
        if (!intercept(request, response)) handler(request, response);
      });
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const stop = async () => {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    cut();
    await closed;
  };
  const bound = (server.address() as AddressInfo).port;
  return { url: `http://127.0.0.1:${bound}`, port: bound, cut, stop, [Symbol.asyncDispose]: stop };
}
