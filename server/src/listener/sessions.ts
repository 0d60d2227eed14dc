import type { ServerHttp2Session } from "node:http2";
import { constants } from "node:http2";
import type { ListenerLimits } from "./limits.ts";

const maxStreamId = 2 ** 31 - 1;
const roundTripMs = 1000;

/** The open HTTP/2 connections. */
export interface Sessions {
  /** Sets the connection's window and follows it until it closes. */
  track(session: ServerHttp2Session): void;
  /** Tells all of them to go away, now and when they open later. */
  drain(): void;
}

/** Follows HTTP/2 connections: one that has no streams for `idleTimeoutMs` is told to go away. */
export function followSessions(
  limits: Pick<ListenerLimits, "idleTimeoutMs" | "connectionWindowBytes">,
): Sessions {
  const open = new Set<ServerHttp2Session>();
  let draining = false;

  return {
    track(session) {
      open.add(session);
      let streams = 0;
      const idle = setTimeout(() => {
        if (streams === 0) session.close();
      }, limits.idleTimeoutMs).unref();
      function onStreamClose(): void {
        streams--;
        if (streams === 0) idle.refresh();
      }
      session.on("stream", (stream) => {
        streams++;
        stream.once("close", onStreamClose);
      });
      session.once("close", () => {
        clearTimeout(idle);
        open.delete(session);
      });
      session.setLocalWindowSize(limits.connectionWindowBytes);
      if (draining) sayGoodbye(session);
    },
    drain() {
      draining = true;
      for (const session of open) sayGoodbye(session);
    },
  };
}

/**
 * RFC 9113, 6.8: first a notice that refuses nothing, then, after one round trip, the GOAWAY that names the last stream
 * served. A call that was under way to us meanwhile gets an answer instead of a torn stream.
 */
function sayGoodbye(session: ServerHttp2Session): void {
  if (session.destroyed || session.closed) return;
  session.goaway(constants.NGHTTP2_NO_ERROR, maxStreamId);
  const timer = setTimeout(close, roundTripMs);
  if (!session.ping(close)) close();
  function close(): void {
    clearTimeout(timer);
    if (!session.destroyed) session.close();
  }
}
