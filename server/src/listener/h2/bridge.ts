/**
 * The bridge to Node's server of HTTP/2: what is not for the lean path crosses it, request by request. Node's client is on this
 * side and its server on the other, with a pair of pipes in this process between them: so all that the server has for odd
 * requests, long bodies and slow readers holds as if it had the connection itself.
 */
import { randomUUID } from "node:crypto";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { type Duplex, duplexPair } from "node:stream";
import type { Held } from "../held.ts";
import type { HttpHandler } from "../http.ts";
import { errorCode } from "./frames.ts";
import { fieldList, type Http2Stream } from "./stream.ts";

/** A request on its way over the bridge. */
export interface Bridged {
  write(piece: Buffer, taken: () => void): void;
  end(): void;
  close(code: number): void;
}

/** Takes the far end of a bridge as a connection. */
export type Landing = (pipe: Duplex) => void;

const tokenField = "x-pulsewire-held";

/** Answers that are decided already; each goes over the bridge as a name that nobody can guess. */
const decided = new Map<string, HttpHandler>();

/** The answer that was decided for a request before it crossed the bridge; the field that says so is taken away. */
export function decidedAnswer(headers: Record<string, unknown>): HttpHandler | undefined {
  const token = headers[tokenField];
  const answer = typeof token === "string" ? decided.get(token) : undefined;
  if (!answer) return undefined;
  decided.delete(token as string);
  delete headers[tokenField];
  return answer;
}

const windowBytes = 1024 * 1024;

/** The bridge of a connection: built with the first request that crosses it. */
export class Bridge {
  readonly #landing: Landing;
  #session: ClientHttp2Session | undefined;

  constructor(landing: Landing) {
    this.#landing = landing;
  }

  open(stream: Http2Stream, held?: Held): Bridged {
    let token: string | undefined;
    const headers = { ...stream.head.headers };
    if (held?.answer) {
      token = randomUUID();
      decided.set(token, held.answer);
      headers[tokenField] = token;
    }
    let request: ClientHttp2Stream;
    try {
      request = this.#sessionNow().request(headers, { endStream: false });
    } catch {
      // Node's client does not send what its server would not take.
      if (token) decided.delete(token);
      process.nextTick(() => stream.abandon(errorCode.protocol));
      return nowhere;
    }
    for (const chunk of held?.chunks ?? []) request.write(chunk);
    return new Crossing(stream, request, () => token && decided.delete(token));
  }

  close(): void {
    this.#session?.destroy();
  }

  #sessionNow(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const [near, far] = duplexPair();
    const session = connect("http://bridge.invalid", {
      createConnection: () => near,
      settings: { enablePush: false, initialWindowSize: windowBytes },
    });
    session.on("error", ignore);
    session.on("connect", () => session.setLocalWindowSize(4 * windowBytes));
    const leave = () => {
      if (this.#session === session) this.#session = undefined;
    };
    session.on("goaway", leave);
    session.on("close", leave);
    this.#session = session;
    far.on("error", ignore);
    near.on("error", ignore);
    this.#landing(far);
    return session;
  }
}

/** A request on the bridge, and its answer on the way back. */
class Crossing implements Bridged {
  readonly #request: ClientHttp2Stream;

  constructor(stream: Http2Stream, request: ClientHttp2Stream, over: () => void) {
    this.#request = request;
    let trailers: string[] | undefined;
    const onData = (piece: Buffer) => {
      if (stream.write(piece)) return;
      request.pause();
      stream.onDrain(() => request.resume());
    };
    request.on("response", (_headers, flags, raw: string[] = fieldList(_headers)) => {
      stream.respond(raw.map(String), (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0);
      // Not before: Node tells of data at once, of heads a little later.
      request.on("data", onData);
    });
    request.on("headers", (headers) => stream.respond(fieldList(headers), false));
    request.on("continue", () => stream.respond([":status", "100"], false));
    request.on("trailers", (headers) => {
      trailers = fieldList(headers);
    });
    let ended = false;
    request.on("end", () => {
      if (request.rstCode !== constants.NGHTTP2_NO_ERROR || request.aborted) return;
      ended = true;
      stream.endWith(trailers);
    });
    request.on("error", ignore);
    request.on("close", () => {
      over();
      const code = request.rstCode ?? errorCode.cancel;
      // What was sent well may still wait for the peer's window.
      if (ended && code === constants.NGHTTP2_NO_ERROR) stream.endedAcross();
      else stream.abandon(code);
    });
  }

  write(piece: Buffer, taken: () => void): void {
    this.#request.write(piece, () => taken());
  }
  end(): void {
    this.#request.end();
  }
  close(code: number): void {
    if (!this.#request.closed) this.#request.close(code);
  }
}

const nowhere: Bridged = { write: (_piece, taken) => taken(), end() {}, close() {} };

function ignore(): void {}
