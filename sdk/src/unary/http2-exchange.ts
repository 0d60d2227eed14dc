import { constants, type IncomingHttpHeaders } from "node:http2";
import { Code } from "../code.ts";
import { PulsewireError } from "../errors.ts";
import type { AnswerHeaders, Exchange } from "./exchange.ts";
import type { Http2Connection } from "./http2-connection.ts";

/**
 * Over HTTP/2: the pieces go to the socket as they lie in memory.
 *
 * @param maxBytes what an answer may have
 */
export function http2Exchange(baseUrl: string, connection: Http2Connection, maxBytes: number): Exchange {
  const { pathname } = new URL(baseUrl);
  const prefix = pathname === "/" ? "" : pathname;
  return async ({ path, headers, body, signal }) => {
    const stream = await until(signal, connection.request(prefix + path, headers), (late) =>
      late.close(constants.NGHTTP2_CANCEL),
    );
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = () => {
      reject(signal.reason);
      stream.close(constants.NGHTTP2_CANCEL);
    };
    signal.addEventListener("abort", abort, { once: true });
    let received: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    let size = 0;
    stream.on("response", (answer) => {
      received = answer;
    });
    stream.on("trailers", (answer) => {
      trailers = answer;
    });
    stream.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size <= maxBytes) return;
      reject(new PulsewireError({ code: Code.ResourceExhausted, message: "The answer is too large." }));
      stream.close(constants.NGHTTP2_CANCEL);
    });
    stream.on("error", reject);
    stream.on("end", () => (received[":status"] === undefined ? reject(cutOff()) : resolve()));
    stream.on("close", () => {
      // After the end nothing changes any more; before it the answer is cut off.
      if (!stream.readableEnded) reject(cutOff());
      // Node's list of streams may keep this one until the next collection of the whole heap, and all that its listeners hold.
      stream.removeAllListeners();
      stream.on("error", ignore);
    });
    stream.cork();
    for (const piece of body) stream.write(piece);
    stream.end();
    stream.uncork();
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", abort);
    }
    const whole = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, size);
    return {
      status: Number(received[":status"]),
      headers: new Received(received),
      trailers: new Received(trailers),
      body: whole,
    };
  };
}

function ignore(): void {}

function cutOff(): PulsewireError {
  return new PulsewireError({
    code: Code.Unavailable,
    message: "The connection broke before the answer was complete.",
  });
}

/** Waits no longer than the signal lets; what comes later is given back. */
async function until<T>(signal: AbortSignal, work: Promise<T>, giveBack: (late: T) => void): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => {
    reject(signal.reason);
    work.then(giveBack, () => {});
  };
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** As Node has them: fetch's Headers would cost more than all else of an answer. */
class Received implements AnswerHeaders {
  readonly #headers: IncomingHttpHeaders;

  constructor(headers: IncomingHttpHeaders) {
    this.#headers = headers;
  }

  get(name: string): string | null {
    const value = this.#headers[name];
    return value === undefined ? null : Array.isArray(value) ? value.join(", ") : String(value);
  }

  has(name: string): boolean {
    return this.#headers[name] !== undefined;
  }
}
