/** Requests to addresses that a tenant has named: they must not reach what only this machine can. */
import { lookup as resolve } from "node:dns";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { isPublicAddress } from "./addresses.ts";

export interface OutboundRules {
  /** Allows http and private addresses. */
  readonly allowPrivate: boolean;
  /** Longest answer, bytes. */
  readonly maxBytes: number;
  /** From the resolution of the name to the last byte. */
  readonly timeoutMs: number;
}

/** The rules forbid the request; it was not sent. */
export class OutboundForbidden extends Error {
  override name = "OutboundForbidden";
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
  const url = new URL(address);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (url.username || url.password) throw new OutboundForbidden("an address must not hold a password");
  if (!rules.allowPrivate) {
    if (url.protocol !== "https:") throw new OutboundForbidden("only https addresses are allowed");
    if (isIP(host) && !isPublicAddress(host)) throw privateAddress();
  } else if (url.protocol !== "https:" && url.protocol !== "http:") {
    throw new OutboundForbidden("only http and https addresses are allowed");
  }
  try {
    return await get(url, rules);
  } catch (error) {
    if (error instanceof OutboundForbidden || error instanceof OutboundFailed) throw error;
    const { name, code } = error as NodeJS.ErrnoException;
    const why =
      name === "TimeoutError" || name === "AbortError" ? "no answer in time" : (code ?? "no connection");
    throw new OutboundFailed(`${url.host} could not be reached (${why})`, { cause: error });
  }
}

function privateAddress(): OutboundForbidden {
  return new OutboundForbidden("the address leads into a private network");
}

/** Resolves a name and refuses it when any of its addresses is not public. */
const publicLookup: LookupFunction = (hostname, options, callback) => {
  resolve(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return callback(error, "");
    if (!addresses.every(({ address }) => isPublicAddress(address))) return callback(privateAddress(), "");
    if (options.all) return callback(null, addresses);
    const [first] = addresses;
    callback(null, first?.address ?? "", first?.family);
  });
};

function get(url: URL, { allowPrivate, maxBytes, timeoutMs }: OutboundRules): Promise<string> {
  return new Promise((done, fail) => {
    const request = (url.protocol === "https:" ? requestHttps : requestHttp)(url, {
      agent: false,
      headers: { accept: "application/json, application/jwk-set+json", "user-agent": "pulsewire" },
      signal: AbortSignal.timeout(timeoutMs),
      ...(!allowPrivate && { lookup: publicLookup }),
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
