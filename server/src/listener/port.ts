import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Stream, type ServerOptions } from "node:http2";
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { cutOff } from "./body.ts";
import { decidedAnswer } from "./h2/bridge.ts";
import { createHttp2Connections } from "./h2/connections.ts";
import { heldOf, hold } from "./held.ts";
import type { HttpHandler, HttpRequest, HttpResponse } from "./http.ts";
import { createDirectConnections } from "./lean/direct.ts";
import type { LeanPath } from "./lean/path.ts";
import { type ListenerLimits, listenerLimits } from "./limits.ts";
import { setPeer } from "./peers.ts";
import { followRequests } from "./requests.ts";
import { followSessions } from "./sessions.ts";
import { sniff } from "./sniff.ts";
import { refuseUnreadable } from "./unreadable.ts";
import { writeError } from "./write-error.ts";

export type { ListenerLimits } from "./limits.ts";
export { listenerLimits } from "./limits.ts";

/** Certificate and key in PEM form, and optionally the authority that clients' certificates must come from. */
export interface ListenerTls {
  cert: string | Buffer;
  key: string | Buffer;
  /** When given, clients must present a certificate that this authority signed. */
  clientCa?: string | Buffer;
}

export interface ListenerOptions {
  /** Answers every request, HTTP/1.1 and HTTP/2. */
  handler: HttpHandler;
  /** Takes calls before the handler sees them. */
  lean?: LeanPath;
  /** Departures from {@link listenerLimits}. */
  limits?: Partial<ListenerLimits>;
  /** Serves TLS with ALPN (h2, http/1.1) instead of cleartext. */
  tls?: ListenerTls;
  logger: Logger;
}

/** One TCP port that speaks HTTP/1.1 and HTTP/2. */
export interface Listener {
  /** Begins to accept connections; port 0 picks a free one. */
  listen(address: { host: string; port: number }): Promise<ListenerAddress>;
  /**
   * Stops accepting, closes idle connections, tells the others to go away and waits for running requests. What still
   * runs after `timeoutMs` is destroyed.
   */
  drain(timeoutMs: number): Promise<void>;
  /** Closes everything at once. */
  destroy(): Promise<void>;
  /** Open connections. */
  connections(): number;
  /** Requests that run at the moment. */
  requests(): number;
}

/** Where a {@link Listener} listens. */
export interface ListenerAddress {
  host: string;
  port: number;
  url: string;
}

/**
 * Creates one port for everything: gRPC, gRPC-Web, Connect and plain HTTP over HTTP/1.1 and HTTP/2. In cleartext the
 * HTTP/2 preface decides, with TLS the client's ALPN choice.
 */
export function createListener(options: ListenerOptions): Listener {
  const { handler, lean, tls, logger } = options;
  const limits: ListenerLimits = { ...listenerLimits, ...options.limits };
  const requests = followRequests(limits, lean?.running);
  const sessions = followSessions(limits);
  const sockets = new Set<Socket>();
  const undecided = new Set<Socket>();
  let draining = false;

  function onRequest(req: HttpRequest, res: HttpResponse): void {
    requests.track(req, res);
    try {
      (heldOf(req)?.answer ?? handler)(req, res);
    } catch (error) {
      logger.error({ err: error, url: req.url }, "handler failed");
      if (res.headersSent) cutOff(req);
      else writeError(req, res, new ConnectError("internal error", Code.Internal));
    }
  }

  // Of connections whose next request is answered already, so to speak.
  const answers = new WeakMap<Socket, HttpHandler>();
  const h1 = createHttp1Server(
    {
      maxHeaderSize: limits.maxHeaderBytes,
      headersTimeout: limits.headersTimeoutMs,
      // Bodies are timed in requests.ts, where streams are told from single messages.
      requestTimeout: 0,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(1000, Math.max(20, limits.headersTimeoutMs / 4)),
    },
    (req, res) => {
      const answer = answers.get(req.socket);
      if (answer) {
        answers.delete(req.socket);
        hold(req, { chunks: [], ended: false, answer });
        onRequest(req, res);
      } else if (!lean?.takeRequest(req, res)) onRequest(req, res);
    },
  );
  h1.maxHeadersCount = limits.maxHeaderListPairs;
  h1.on("clientError", refuseUnreadable);
  const http2Options: ServerOptions = {
    settings: {
      maxConcurrentStreams: limits.maxConcurrentStreams,
      initialWindowSize: limits.streamWindowBytes,
      maxHeaderListSize: limits.maxHeaderBytes,
    },
    maxSessionMemory: limits.maxSessionMemoryMb,
    maxHeaderListPairs: limits.maxHeaderListPairs,
    maxSettings: limits.maxSettings,
    maxOutstandingPings: limits.maxOutstandingPings,
    maxSessionInvalidFrames: limits.maxInvalidFrames,
    streamResetBurst: limits.maxRapidResets,
    streamResetRate: limits.rapidResetsPerSecond,
  };
  const h2 = createHttp2Server(http2Options);
  // Never listens: the far end of bridges, whose near end counts what peers do.
  const landingPlace = createHttp2Server({
    ...http2Options,
    maxSessionInvalidFrames: 2 ** 31,
    streamResetBurst: 2 ** 31,
    streamResetRate: 2 ** 31,
  });
  // Never listens: makes requests and responses of the streams that the lean path leaves.
  const compatible = createHttp2Server(onRequest);
  const leave = (...[stream, ...head]: Parameters<LeanPath["takeStream"]>) =>
    void compatible.emit("stream", stream, ...head);
  lean?.connect({
    stream: leave,
    request: (req: IncomingMessage, res: ServerResponse) => onRequest(req, res),
  });
  const onStream = (...[stream, headers, flags, rawHeaders]: Parameters<LeanPath["takeStream"]>) => {
    const answer = decidedAnswer(headers);
    if (answer) {
      hold(stream, { chunks: [], ended: false, answer });
      leave(stream, headers, flags, rawHeaders);
    } else if (!lean?.takeStream(stream, headers, flags, rawHeaders))
      leave(stream, headers, flags, rawHeaders);
  };
  // Of the bridge whose session is about to begin.
  let landing: { remoteAddress: string | undefined } | undefined;
  for (const server of [h2, landingPlace]) {
    server.on("stream", (stream, ...head) => onStream(stream as ServerHttp2Stream, ...head));
    server.on("session", (session) => {
      if (landing) setPeer(session, landing);
      sessions.track(session);
    });
  }
  const directHttp2 =
    lean &&
    tls === undefined &&
    createHttp2Connections({
      lean,
      limits,
      land(pipe, remoteAddress) {
        landing = { remoteAddress };
        landingPlace.emit("connection", pipe);
        landing = undefined;
      },
    });

  const direct =
    lean &&
    createDirectConnections({
      lean,
      limits,
      toNode(socket, bytes, answer) {
        if (answer) answers.set(socket, answer);
        socket.pause();
        socket.unshift(bytes);
        serveByNode(socket);
        // What was put back comes before what Node's parser reads by itself.
        process.nextTick(() => socket.resume());
      },
    });
  function serveByNode(socket: Socket): void {
    h1.emit("connection", socket);
    // Node's HTTP/1.1 parser reads TLS beneath the stream, past its own pause after a large answer, and then fails
    // ("Parse Error: Paused"). A listener for data makes it read the stream.
    if (tls !== undefined) socket.on("data", () => {});
  }

  const accept = {
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: limits.tcpKeepAliveMs,
  };
  function serve(socket: Socket, protocol: "h1" | "h2"): void {
    if (draining) {
      socket.destroy();
      return;
    }
    socket.once("finish", linger);
    if (protocol === "h2" && directHttp2) directHttp2.take(socket);
    else if (protocol === "h2") h2.emit("connection", socket);
    else if (direct) direct.take(socket);
    else serveByNode(socket);
  }
  const server: Server =
    tls === undefined
      ? createNetServer(accept, (socket) => {
          undecided.add(socket);
          socket.once("close", () => undecided.delete(socket));
          sniff(socket, limits.sniffTimeoutMs, (protocol) => {
            undecided.delete(socket);
            serve(socket, protocol);
          });
        })
      : createTlsServer(
          {
            ...accept,
            cert: tls.cert,
            key: tls.key,
            ALPNProtocols: ["h2", "http/1.1"],
            handshakeTimeout: limits.sniffTimeoutMs,
            ...(tls.clientCa && { ca: tls.clientCa, requestCert: true, rejectUnauthorized: true }),
          },
          (socket: TLSSocket) => serve(socket, socket.alpnProtocol === "h2" ? "h2" : "h1"),
        );
  server.maxConnections = limits.maxConnections;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", (error) => logger.debug({ err: error }, "connection failed"));
  });
  server.on("drop", (peer) =>
    logger.warn({ peer, maxConnections: limits.maxConnections }, "connection refused"),
  );
  server.on("tlsClientError", (error, socket: TLSSocket) => {
    logger.debug({ err: error }, "TLS handshake failed");
    // Node leaves this to us where the handshake timed out.
    socket.destroy();
  });

  /** Once we have said our last, a peer that does not close keeps its connection no longer. */
  function linger(this: Socket): void {
    const timer = setTimeout(() => this.destroy(), limits.lingerTimeoutMs).unref();
    this.once("close", () => clearTimeout(timer));
  }

  /** Stops accepting; settles when the last connection is gone. */
  async function close(): Promise<void> {
    draining = true;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of undecided) socket.destroy();
    direct?.drain();
    h1.close();
    await closed;
    await Promise.all([...sockets].map((socket) => new Promise((resolve) => socket.once("close", resolve))));
    requests.stop();
    direct?.stop();
    if (directHttp2) directHttp2.stop();
  }

  return {
    async listen({ host, port }) {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host, port }, () => {
          server.off("error", reject);
          resolve();
        });
      });
      // This server never listens itself, but its watch over slow headers and idle connections starts with the event.
      h1.emit("listening");
      const bound = server.address() as AddressInfo;
      const shown = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
      return {
        host: bound.address,
        port: bound.port,
        url: `${tls === undefined ? "http" : "https"}://${shown}:${bound.port}`,
      };
    },
    async drain(timeoutMs) {
      const timer = setTimeout(() => {
        logger.warn({ requests: requests.size, connections: sockets.size }, "drain timed out");
        for (const socket of sockets) socket.destroy();
      }, timeoutMs);
      requests.drain();
      const closed = close();
      if (directHttp2) directHttp2.drain();
      sessions.drain();
      await closed;
      clearTimeout(timer);
    },
    async destroy() {
      const closed = close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    connections: () => sockets.size,
    requests: () => requests.size,
  };
}
