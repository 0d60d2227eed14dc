import { Code, ConnectError, cors as connectCors } from "@connectrpc/connect";
import type { HttpHandler, HttpRequest, HttpResponse } from "./http.ts";
import { writeError } from "./write-error.ts";

/** Time for which a browser may remember the answer to a preflight; browsers cap it themselves. */
const preflightMaxAgeSeconds = 7200;

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].join(", ");

const requestHeaders = join(connectCors.allowedHeaders, [
  "authorization",
  "x-api-key",
  "idempotency-key",
  "x-pulsewire-tenant",
  "if-match",
  "if-none-match",
  "last-event-id",
  "grpc-encoding",
  "grpc-accept-encoding",
  "x-request-id",
  "traceparent",
  "tracestate",
]);

const responseHeaders = join(connectCors.exposedHeaders, [
  "grpc-encoding",
  "x-request-id",
  "idempotent-replayed",
  "retry-after",
  "ratelimit",
  "ratelimit-policy",
  "ratelimit-limit",
  "ratelimit-remaining",
  "ratelimit-reset",
  "x-ratelimit-limit",
  "x-ratelimit-remaining",
  "x-ratelimit-reset",
  "www-authenticate",
  "accept-post",
  "allow",
  "etag",
  "location",
  "link",
  "traceresponse",
]);

/**
 * Lets scripts from other origins call: those listed, or all of them with `*`. Credentials are sent in headers, never in
 * cookies, so `access-control-allow-credentials` is not granted, nor is access from public pages to private networks.
 */
export function withCors(origins: readonly string[], handler: HttpHandler): HttpHandler {
  const all = origins.includes("*");
  const allowed = new Set(origins);
  return (req, res) => {
    const origin = req.headers.origin;
    // Nobody keeps the answer to a POST for another caller.
    if (!all && (origin !== undefined || req.method !== "POST")) res.setHeader("vary", "origin");
    if (origin === undefined) return handler(req, res);
    const granted = all || allowed.has(origin);
    if (granted) {
      res.setHeader("access-control-allow-origin", all ? "*" : origin);
      res.setHeader("access-control-expose-headers", responseHeaders);
    }
    if (isPreflight(req)) answerPreflight(req, res, granted);
    else handler(req, res);
  };
}

function isPreflight(req: HttpRequest): boolean {
  return req.method === "OPTIONS" && req.headers["access-control-request-method"] !== undefined;
}

function answerPreflight(req: HttpRequest, res: HttpResponse, granted: boolean): void {
  if (!granted) {
    const message = `scripts from ${req.headers.origin} may not call this server`;
    writeError(req, res, new ConnectError(message, Code.PermissionDenied), { form: "http" });
    return;
  }
  res.removeHeader("access-control-expose-headers");
  res.writeHead(204, {
    "access-control-allow-methods": methods,
    "access-control-allow-headers": requestHeaders,
    "access-control-max-age": String(preflightMaxAgeSeconds),
  });
  res.end();
}

function join(...lists: readonly (readonly string[])[]): string {
  return [...new Set(lists.flat().map((name) => name.toLowerCase()))].join(", ");
}
