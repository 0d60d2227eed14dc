/** Documents at addresses that a tenant has named: they must not be reached where only this machine can. */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { allowedUrl, checkedLookup, OutboundForbidden } from "./allowed.ts";

export interface OutboundRules {
  /** Allows http and private addresses. */
  readonly allowPrivate: boolean;
  /** Longest answer, bytes. */
  readonly maxBytes: number;
  /** From the resolution of the name to the last byte. */
  readonly timeoutMs: number;
}

/** There was no answer, or none of use. The message is for whoever named the address. */
export class OutboundFailed extends Error {
  override name = "OutboundFailed";
}

/**
 * Fetches a document. Names are resolved here and the connection goes to what was checked, so a name that changes in
 * between leads nowhere else. No redirects, no cookies, no proxy. Rejects with {@link OutboundForbidden} or
 * {@link OutboundFailed}.
 */
export async function fetchDocument(address: string, rules: OutboundRules): Promise<string> {
  const url = allowedUrl(address, rules.allowPrivate);
  try {
    return await get(url, rules);
  } catch (error) {
    throw explained(error, url);
  }
}

/** What went wrong with a request, in words for whoever named the address. */
export function explained(error: unknown, url: URL): OutboundForbidden | OutboundFailed {
  if (error instanceof OutboundForbidden || error instanceof OutboundFailed) return error;
  const { name, code } = error as NodeJS.ErrnoException;
  const why =
    name === "TimeoutError" || name === "AbortError" ? "no answer in time" : (code ?? "no connection");
  return new OutboundFailed(`${url.host} could not be reached (${why})`, { cause: error });
}

function get(url: URL, { allowPrivate, maxBytes, timeoutMs }: OutboundRules): Promise<string> {
  return new Promise((done, fail) => {
    const request = (url.protocol === "https:" ? requestHttps : requestHttp)(url, {
      agent: false,
      headers: { accept: "application/json, application/jwk-set+json", "user-agent": "pulsewire" },
      signal: AbortSignal.timeout(timeoutMs),
      lookup: checkedLookup(allowPrivate),
    });
    request.on("error", fail);
    request.on("response", (response) => {
      response.on("error", fail);
      if (response.statusCode !== 200) {
        response.destroy();
        return fail(new OutboundFailed(`${url.host} answered with status ${response.statusCode}`));
      }
      const chunks: Buffer[] = [];
      let length = 0;
      response.on("data", (chunk: Buffer) => {
        length += chunk.length;
        if (length > maxBytes) {
          response.destroy();
          fail(new OutboundFailed(`${url.host} answered with more than ${maxBytes} bytes`));
        } else chunks.push(chunk);
      });
      response.on("end", () => done(Buffer.concat(chunks).toString()));
    });
    request.end();
  });
}
