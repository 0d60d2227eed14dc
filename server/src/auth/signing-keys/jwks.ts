import { hash } from "node:crypto";
import type { HttpRequest, HttpResponse } from "../../listener/http.ts";
import type { SigningKeys } from "./keys.ts";

const path = "/.well-known/jwks.json";
/** How long the JWKS may be cached, at most; never longer than half of what a key is published ahead. */
const cacheSeconds = 300;

/**
 * Answers `GET /.well-known/jwks.json` with the public keys, for others that check our tokens. Returns false for any
 * other path.
 */
export function jwksHandler(
  keys: SigningKeys,
  leadMs: number,
): (req: HttpRequest, res: HttpResponse) => boolean {
  const maxAge = Math.min(cacheSeconds, Math.floor(leadMs / 2_000));
  return (req, res) => {
    if (req.url?.split("?", 1)[0] !== path) return false;
    if (req.method !== "GET" && req.method !== "HEAD") {
      res.writeHead(405, { allow: "GET, HEAD" });
      res.end();
      return true;
    }
    const body = JSON.stringify({ keys: keys.publicKeys() });
    const etag = `"${hash("sha256", body, "base64url").slice(0, 22)}"`;
    const headers = { etag, "cache-control": `public, max-age=${maxAge}` };
    if (matches(req.headers["if-none-match"], etag)) {
      res.writeHead(304, headers);
      res.end();
    } else {
      res.writeHead(200, {
        ...headers,
        "content-type": "application/jwk-set+json",
        "content-length": Buffer.byteLength(body),
      });
      res.end(req.method === "HEAD" ? "" : body);
    }
    return true;
  };
}

function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  return (ifNoneMatch ?? "")
    .split(",")
    .map((tag) => tag.trim().replace(/^W\//, ""))
    .some((tag) => tag === "*" || tag === etag);
}
