/** What a header block says, where it is the head of a request. */
import type { IncomingHttpHeaders } from "node:http";

/** The head of a request; equal ones may be one object. */
export interface RequestHead {
  /** As Node gives them, those that begin with a colon included. */
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the body; -1: not announced. */
  readonly contentLength: number;
}

/** Fields of which Node takes the first, as there can be only one. */
const singles = new Set(
  `:method :authority :scheme :path access-control-allow-credentials access-control-max-age access-control-request-method age
  authorization content-encoding content-language content-length content-location content-md5 content-range content-type date
  dnt etag expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location
  max-forwards proxy-authorization range referer retry-after tk upgrade-insecure-requests user-agent
  x-content-type-options`.split(/\s+/),
);
/** Fields of a connection of HTTP/1.1: what has them was not made for HTTP/2. */
const connectionFields = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
const pseudoFields = new Set([":method", ":scheme", ":authority", ":path"]);

const goodName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const goodValue = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;

/** The head that the fields make; undefined: it is malformed (RFC 9113, 8.1.1). */
export function requestHeadOf(list: readonly string[]): RequestHead | undefined {
  const headers: IncomingHttpHeaders = Object.create(null);
  let regular = false;
  for (let index = 0; index < list.length; index += 2) {
    const name = list[index] as string;
    const value = list[index + 1] as string;
    if (!goodValue.test(value)) return undefined;
    if (name.startsWith(":")) {
      if (regular || !pseudoFields.has(name) || headers[name] !== undefined) return undefined;
    } else {
      regular = true;
      if (!goodName.test(name) || connectionFields.has(name) || (name === "te" && value !== "trailers"))
        return undefined;
      if (name === "content-length" && headers[name] !== undefined) return undefined;
    }
    add(headers, name, value);
  }
  return isWhole(headers) ? { headers, contentLength: contentLengthOf(headers) } : undefined;
}

function add(headers: IncomingHttpHeaders, name: string, value: string): void {
  const there = headers[name];
  if (there === undefined) headers[name] = name === "set-cookie" ? [value] : value;
  else if (Array.isArray(there)) there.push(value);
  else if (!singles.has(name)) headers[name] = `${there}${name === "cookie" ? ";" : ","} ${value}`;
}

function isWhole(headers: IncomingHttpHeaders): boolean {
  const { ":method": method, ":scheme": scheme, ":path": path, ":authority": authority, host } = headers;
  if (headers["content-length"] !== undefined && !/^\d{1,15}$/.test(headers["content-length"])) return false;
  if (method === "CONNECT") return authority !== undefined && scheme === undefined && path === undefined;
  return Boolean(method && scheme && path) && (authority ?? host) !== undefined;
}

function contentLengthOf(headers: IncomingHttpHeaders): number {
  return headers["content-length"] === undefined ? -1 : Number(headers["content-length"]);
}

/** Whether the fields may stand behind a body. */
export function areTrailers(list: readonly string[]): boolean {
  for (let index = 0; index < list.length; index += 2) {
    const name = list[index] as string;
    if (!goodName.test(name) || connectionFields.has(name) || !goodValue.test(list[index + 1] as string))
      return false;
  }
  return true;
}
