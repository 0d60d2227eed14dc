import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest, ServerHttp2Stream } from "node:http2";
import type { Readable } from "node:stream";
import type { HttpHandler, HttpRequest } from "./http.ts";

/** What the lean path had read of a request when it gave it up. */
export interface Held {
  /** The beginning of the body. */
  readonly chunks: readonly Buffer[];
  /** Whether that is the whole body. */
  readonly ended: boolean;
  /** Answers the request in place of the usual handler. */
  readonly answer?: HttpHandler | undefined;
}

const given = new WeakMap<ServerHttp2Stream | IncomingMessage, Held>();

const sourceOf = (req: HttpRequest) =>
  "stream" in req ? (req as Http2ServerRequest).stream : (req as IncomingMessage);

/** Notes what was read of a request before it is handed over. */
export function hold(source: ServerHttp2Stream | IncomingMessage, held: Held): void {
  given.set(source, held);
}

/** What was read of a request that has been handed over. */
export function heldOf(req: HttpRequest): Held | undefined {
  return given.get(sourceOf(req));
}

/**
 * The whole body of a request. Unlike the library's own iterable it does not destroy the request when a handler stops
 * reading early: on HTTP/1.1 that closes the connection before the answer, for example "message too large", is on its way.
 */
export function bodyOf(req: HttpRequest): AsyncIterable<Uint8Array> {
  const held = heldOf(req);
  return held ? resumed(held, req) : rest(req);
}

function rest(req: HttpRequest) {
  return (req as Readable).iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
}

async function* resumed({ chunks, ended }: Held, req: HttpRequest): AsyncGenerator<Uint8Array> {
  yield* chunks;
  if (ended) return;
  const iterator = rest(req)[Symbol.asyncIterator]();
  let next = iterator.next();
  // The stream was paused when it was handed over, and a request of HTTP/2 does not end a pause that is not its own.
  sourceOf(req).resume();
  for (let result = await next; !result.done; result = await next) {
    yield result.value;
    next = iterator.next();
  }
}
