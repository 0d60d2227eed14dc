import type { Socket } from "node:net";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** What a client speaks on a cleartext connection. */
export type Protocol = "h1" | "h2";

/**
 * Reads just enough of a connection to tell HTTP/2 with prior knowledge from everything else, puts the bytes back
 * and calls `decided`. A connection that stays undecided for `timeoutMs` is destroyed.
 */
export function sniff(socket: Socket, timeoutMs: number, decided: (protocol: Protocol) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), timeoutMs).unref();

  function onData(chunk: Buffer): void {
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, preface.length);
    const matches = preface.compare(seen, 0, length, 0, length) === 0;
    if (matches && length < preface.length) return;
    stop();
    socket.pause();
    socket.unshift(seen);
    decided(matches ? "h2" : "h1");
    // An HTTP/2 session reads what was put back by itself; the HTTP/1.1 parser waits for the flow to go on.
    if (!matches) process.nextTick(() => socket.resume());
  }
  function stop(): void {
    clearTimeout(timer);
    socket.off("data", onData);
    socket.off("close", stop);
    socket.off("end", onEnd);
  }
  function onEnd(): void {
    stop();
    socket.destroy();
  }
  socket.on("data", onData);
  socket.once("close", stop);
  socket.once("end", onEnd);
}
