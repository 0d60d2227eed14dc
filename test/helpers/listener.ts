import { once } from "node:events";
import * as http2 from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { pino } from "pino";
import { Health as HealthService } from "../../server/src/gen/grpc/health/v1/health_pb.js";
import { withCors } from "../../server/src/listener/cors.ts";
import { drainingError } from "../../server/src/listener/draining.ts";
import { createRpcHandler, type RpcHandlerOptions } from "../../server/src/listener/handler.ts";
import {
  createListener,
  type Listener,
  type ListenerLimits,
  type ListenerTls,
} from "../../server/src/listener/port.ts";
import { createHealth, type Health } from "../../server/src/ops/health.ts";
import { reflectionRoutes } from "../../server/src/ops/reflection.ts";

/** A listener with health and reflection on a free port. */
export interface TestListener extends AsyncDisposable {
  url: string;
  port: number;
  listener: Listener;
  health: Health;
  /** Refuses new calls and ends streams, as a shutdown begins. */
  shutdown(): void;
}

/** Options of {@link startListener}. */
export interface TestListenerOptions {
  /** Default: the health service. */
  routes?: (router: ConnectRouter) => void;
  /** What reflection describes. Default: the health service. */
  reflected?: DescService[];
  limits?: Partial<ListenerLimits>;
  tls?: ListenerTls;
  corsOrigins?: string[];
  codecs?: RpcHandlerOptions["codecs"];
}

/** Starts a listener as the server does, without what the server puts behind it. */
export async function startListener(options: TestListenerOptions = {}): Promise<TestListener> {
  const { limits = {}, tls, corsOrigins = [] } = options;
  const logger = pino({ level: "silent" });
  const health = createHealth();
  const shutdownSignal = new AbortController();
  const { handler, lean } = createRpcHandler({
    routes(router) {
      (options.routes ?? health.routes)(router);
      reflectionRoutes(router, options.reflected ?? [HealthService]);
    },
    shutdownSignal: shutdownSignal.signal,
    limits,
    ...(options.codecs && { codecs: options.codecs }),
    fallback(req, res) {
      if (health.answerHealth(req, res)) return;
      res.writeHead(404, { "content-type": "text/plain" });
      res.end("fallback");
    },
    logger,
  });
  const listener = createListener({
    handler: withCors(corsOrigins, handler),
    lean,
    limits,
    logger,
    ...(tls && { tls }),
  });
  const { url, port } = await listener.listen({ host: "127.0.0.1", port: 0 });
  health.set("", "SERVING");
  return {
    url,
    port,
    listener,
    health,
    shutdown() {
      health.shutdown();
      shutdownSignal.abort(drainingError());
    },
    [Symbol.asyncDispose]: () => listener.destroy(),
  };
}

/** A bare connection that collects what it gets. */
export class RawConnection implements Disposable {
  readonly socket: Socket;
  received = "";
  readonly closed: Promise<unknown>;

  constructor(port: number) {
    this.socket = connectSocket({ port, host: "127.0.0.1", noDelay: true });
    this.closed = new Promise((resolve) => this.socket.once("close", resolve));
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk) => {
      this.received += chunk.toString("latin1");
    });
  }

  /** Waits until what was received matches. */
  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.received)) {
      if (this.socket.destroyed) throw new Error(`closed before ${pattern}; got ${this.received}`);
      await Promise.race([once(this.socket, "data"), this.closed]);
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** An HTTP/2 connection that closes with its block. */
export function openSession(
  url: string,
  options: http2.SecureClientSessionOptions = {},
): http2.ClientHttp2Session & Disposable {
  const session = http2.connect(url, options);
  session.on("error", () => {});
  return Object.assign(session, { [Symbol.dispose]: () => session.destroy() });
}

/** One request on a session: status, headers, trailers and body, or the code its stream was reset with. */
export async function request(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: Uint8Array | string,
) {
  const stream = session.request(headers, { endStream: body === undefined });
  let answer: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader = {};
  let trailers: http2.IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on("response", (got) => {
    answer = got;
  });
  stream.on("trailers", (got) => {
    trailers = got;
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("error", () => {});
  if (body !== undefined) stream.end(body);
  await new Promise((resolve) => stream.once("close", resolve));
  return {
    status: answer[":status"],
    headers: answer,
    trailers,
    body: Buffer.concat(chunks),
    rst: stream.rstCode,
  };
}
