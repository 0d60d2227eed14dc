import type { ServerHttp2Session } from "node:http2";
import { constants } from "node:http2";
import type { ListenerLimits } from "./limits.ts";

const maxStreamId = 2 ** 31 - 1;
const roundTripMs = 1000;

/** The open HTTP/2 connections. */
export interface Sessions {
  /** Sets the connection's window and follows it until it closes. */
  track(session: ServerHttp2Session): void;
  /** Tells all of them to go away. */
  drain(): void;
}

/** Follows HTTP/2 connections: one that has no streams for `idleTimeoutMs` is told to go away. */
export function followSessions(
  limits: Pick<ListenerLimits, "idleTimeoutMs" | "lingerTimeoutMs" | "connectionWindowBytes">,
): Sessions {
  const open = new Map<ServerHttp2Session, { streams: number }>();
  let draining = false;

  return {
    track(session) {
      const state = { streams: 0 };
      open.set(session, state);
      const idle = setTimeout(() => {
        if (state.streams > 0) return;
        session.close();
        // One in the midst of a header block does not close by itself: its stream has begun, and nobody was told.
        setTimeout(() => session.destroy(), limits.lingerTimeoutMs).unref();
      }, limits.idleTimeoutMs).unref();
      function onStreamClose(): void {
        state.streams--;
        if (state.streams > 0) return;
        if (draining) session.close();
        else idle.refresh();
      }
      session.on("stream", (stream) => {
        state.streams++;
        stream.on("close", onStreamClose);
      });
      session.once("close", () => {
        clearTimeout(idle);
        open.delete(session);
      });
      session.setLocalWindowSize(limits.connectionWindowBytes);
    },
    drain() {
      draining = true;
      for (const [session, { streams }] of open) {
        if (streams === 0) session.close();
        else sayGoodbye(session);
      }
    },
  };
}

/**
 * RFC 9113, 6.8: first a notice that refuses nothing, then, after one round trip, the GOAWAY that names the last stream
 * served. A call that was under way to us meanwhile gets an answer instead of a torn stream. Only where streams are open:
 * Node reads no more from a connection without any once it has said GOAWAY.
 */
function sayGoodbye(session: ServerHttp2Session): void {
  session.goaway(constants.NGHTTP2_NO_ERROR, maxStreamId);
  const timer = setTimeout(close, roundTripMs);
  if (!session.ping(close)) close();
  function close(): void {
    clearTimeout(timer);
    if (!session.destroyed) session.close();
  }
}
