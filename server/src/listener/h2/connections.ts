/**
 * Connections of HTTP/2 in cleartext, read here without Node's http2: that makes an object, some events and a dozen ways into
 * native code of every stream, and so costs more than all the rest of a short call. What is not for the lean path crosses a
 * bridge to Node's server (`bridge.ts`).
 */
import type { Socket } from "node:net";
import { Http2Connection, type Http2Options } from "./connection.ts";

const roundTripMs = 1_000;
/** Looks in the time that a connection may be idle. */
const sweepsOfIdleTime = 4;

/** The connections that are read here. */
export interface Http2Connections {
  /** Takes a new connection, whose first bytes are the preface. */
  take(socket: Socket): void;
  /** Tells all of them to go away. */
  drain(): void;
  /** Ends the watch for idle connections. */
  stop(): void;
}

export function createHttp2Connections(options: Http2Options): Http2Connections {
  /** Those without streams have the sweep in which they were idle first. */
  const open = new Map<Http2Connection, number>();
  let sweeps = 0;
  const timer = setInterval(() => {
    sweeps++;
    for (const [connection, idleSince] of open)
      if (connection.streams === 0 && idleSince <= sweeps - sweepsOfIdleTime) connection.goAway();
  }, options.limits.idleTimeoutMs / sweepsOfIdleTime).unref();
  const watch = {
    idle: (connection: Http2Connection) => void open.set(connection, sweeps),
    closed: (connection: Http2Connection) => void open.delete(connection),
  };
  return {
    take(socket) {
      open.set(new Http2Connection(socket, options, watch), sweeps);
      process.nextTick(() => socket.resume());
    },
    drain() {
      // Also where there is no stream: one may be under way to us.
      for (const connection of open.keys()) connection.sayGoodbye(roundTripMs);
    },
    stop: () => clearInterval(timer),
  };
}
