import type { Credentials } from "./credentials.ts";

/** What every client needs. */
export interface ClientOptions extends Credentials {
  /** Where the server is, such as `http://localhost:8080` or `https://pulsewire.example/prefix`. */
  endpoint: string;
  /** Deadline of each unary call in milliseconds; a call's own `timeoutMs` goes before. Default 10,000. */
  timeoutMs?: number;
  /** Sent with every call, such as `{ "x-request-id": "…" }`. */
  headers?: Record<string, string>;
}

/** Most bytes that one answer may have: 64 MiB. */
export const maxResponseBytes = 64 * 1024 * 1024;

/** Deadline of a unary call where none is given, in milliseconds. */
export const defaultTimeoutMs = 10_000;

/**
 * The endpoint as transports want it.
 *
 * @throws TypeError where it is no http or https address
 */
export function baseUrlOf(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw new TypeError(
      `The endpoint "${endpoint}" is no address such as http://localhost:8080 or https://example.com.`,
    );
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}
