import { STATUS_CODES } from "node:http";

const statusLines = new Map<number, string>();

export function statusLine(status: number): string {
  let line = statusLines.get(status);
  if (line === undefined) {
    line = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "unknown"}\r\n`;
    statusLines.set(status, line);
  }
  return line;
}

let second = 0;
let date = "";
let dateLine = "";
let kept: { readonly timeoutMs: number; readonly lines: string } = { timeoutMs: -1, lines: "" };

/** The time as header fields tell it. */
export function httpDate(): string {
  const now = Math.floor(Date.now() / 1_000);
  if (now !== second) {
    second = now;
    date = new Date(now * 1_000).toUTCString();
    dateLine = `Date: ${date}\r\n`;
  }
  return date;
}

/**
 * The fields that Node's server adds to every answer: the date, and whether the connection is kept, and for how long;
 * undefined: it is closed.
 */
export function standingFields(keepAliveTimeoutMs: number | undefined): string {
  httpDate();
  if (keepAliveTimeoutMs === undefined) return `${dateLine}Connection: close\r\n`;
  if (kept.timeoutMs !== keepAliveTimeoutMs) {
    const seconds = Math.floor(keepAliveTimeoutMs / 1_000);
    kept = {
      timeoutMs: keepAliveTimeoutMs,
      lines: `Connection: keep-alive\r\nKeep-Alive: timeout=${seconds}\r\n`,
    };
  }
  return dateLine + kept.lines;
}
