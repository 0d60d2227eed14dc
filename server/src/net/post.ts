/** POSTs to addresses that a tenant, or the operator, has named. */
import {
  Agent as HttpAgent,
  type IncomingHttpHeaders,
  type RequestOptions,
  request as requestHttp,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { allowedUrl, checkedLookup, type Resolve } from "./allowed.ts";
import { explained } from "./outbound.ts";

export interface PosterOptions {
  /** Allows http and private addresses. */
  readonly allowPrivate: boolean;
  /** How names are resolved; by default as the system does. */
  readonly resolve?: Resolve | undefined;
}

export interface Post {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
  /** From the resolution of the name to the end of the answer's part that is read. */
  readonly timeoutMs: number;
  /** Ends the attempt early. */
  readonly signal?: AbortSignal | undefined;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Its beginning, at most `answerBytes`. */
  readonly body: Buffer;
}

/** What is kept of an answer, and what is read of it so that the connection can be used again; bytes. */
export const answerBytes = 4_096;
const readBytes = 65_536;
/** How long an unused connection is kept. Short, so that a name that has changed is looked up again. */
const idleMs = 4_000;
const idleSockets = 256;

/**
 * Sends POSTs over connections that are kept for a while. A connection leads to an address that was checked when it was
 * made, and nowhere else. No redirects, no cookies, no proxy, no compression.
 */
export interface Poster {
  /** Rejects with OutboundForbidden where the rules forbid it, with OutboundFailed where there was no answer. */
  post(address: string, post: Post): Promise<Answer>;
  /** Closes the connections. */
  close(): void;
}

export function createPoster({ allowPrivate, resolve }: PosterOptions): Poster {
  const options = {
    keepAlive: true,
    maxFreeSockets: idleSockets,
    timeout: idleMs,
    lookup: checkedLookup(allowPrivate, resolve),
  };
  const plain = new HttpAgent(options);
  const secure = new HttpsAgent(options);

  const send = (url: URL, { headers, body, signal }: Post, agent: HttpAgent | undefined): Promise<Answer> =>
    new Promise((done, fail) => {
      const isSecure = url.protocol === "https:";
      const settings: RequestOptions = {
        method: "POST",
        agent: agent ?? false,
        headers: { ...headers, "content-length": Buffer.byteLength(body) },
        ...(signal && { signal }),
        ...(!agent && { lookup: options.lookup }),
      };
      const request = (isSecure ? requestHttps : requestHttp)(url, settings);
      request.on("error", (error: NodeJS.ErrnoException) => {
        // The receiver closed the idle connection just then: the request never began.
        if (request.reusedSocket && error.code === "ECONNRESET")
          send(url, { headers, body, signal, timeoutMs: 0 }, undefined).then(done, fail);
        else fail(error);
      });
      request.on("response", (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        const end = () =>
          done({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).subarray(0, answerBytes),
          });
        response.on("error", fail);
        response.on("data", (chunk: Buffer) => {
          if (length < answerBytes) chunks.push(chunk);
          length += chunk.length;
          if (length <= readBytes) return;
          response.off("error", fail).on("error", () => {});
          response.destroy();
          end();
        });
        response.on("end", end);
      });
      request.end(body);
    });

  return {
    async post(address, post) {
      const url = allowedUrl(address, allowPrivate);
      const timeout = AbortSignal.timeout(post.timeoutMs);
      const signal = post.signal ? AbortSignal.any([post.signal, timeout]) : timeout;
      try {
        return await send(url, { ...post, signal }, url.protocol === "https:" ? secure : plain);
      } catch (error) {
        throw explained(timeout.aborted ? timeout.reason : error, url);
      }
    },
    close() {
      plain.destroy();
      secure.destroy();
    },
  };
}
