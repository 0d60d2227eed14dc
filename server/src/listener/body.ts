import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { constants } from "node:http2";
import type { HttpRequest } from "./http.ts";

/** Whether a request's body has arrived whole. */
export function hasArrived(req: HttpRequest): boolean {
  if (req.complete) return true;
  if (!("stream" in req)) return false;
  const { stream } = req as Http2ServerRequest;
  return stream.endAfterHeaders || stream.readableEnded;
}

/**
 * Reads the rest of a body into nothing, for `timeoutMs` at most. Many clients look for an answer only when they
 * have sent everything, and see a broken connection instead of, say, "message too large" if they cannot.
 */
export function readToEnd(req: HttpRequest, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, timeoutMs).unref();
    req.once("close", done);
    req.once("end", done);
    req.resume();
    function done(): void {
      clearTimeout(timer);
      resolve();
    }
  });
}

/**
 * Gets rid of what is left of a body once its answer is complete. On HTTP/2 that matters even when all has arrived: a
 * stream stays open until it is read. A peer that goes on sending is cut off after `timeoutMs`.
 */
export function discardBody(req: HttpRequest, timeoutMs: number): void {
  readToEnd(req, timeoutMs).then(() => {
    if (hasArrived(req)) return;
    // The trailers of the answer are out by now, so closing the stream takes nothing from the client.
    if ("stream" in req) (req as Http2ServerRequest).stream.close(constants.NGHTTP2_NO_ERROR);
    else cutOff(req);
  });
}

/** Ends a request without an answer. */
export function cutOff(req: HttpRequest): void {
  if ("stream" in req) (req as Http2ServerRequest).stream.close(constants.NGHTTP2_CANCEL);
  else (req as IncomingMessage).socket.destroy();
}
