import { hash, randomBytes, timingSafeEqual } from "node:crypto";

/**
 * A refresh token: `pwr_` and base64url of tenant id, session id, the family's secret and this token's own secret. Ids
 * let it be found under the tenant's row security. The family's secret is the same in all tokens of a session, so that
 * an old token is known for one, which shows a theft, while a made-up one proves nothing and ends nothing.
 */
const form = /^pwr_([A-Za-z0-9_-]{107})$/;
const idBytes = 16;
const familyBytes = 16;
const ownBytes = 32;

export interface RefreshToken {
  readonly tenantId: string;
  readonly sessionId: string;
  readonly family: Buffer;
  readonly own: Buffer;
}

/** The first token of a session. */
export function newRefreshToken(tenantId: string, sessionId: string): RefreshToken {
  return { tenantId, sessionId, family: randomBytes(familyBytes), own: randomBytes(ownBytes) };
}

/** The token that takes over. */
export function nextRefreshToken(token: RefreshToken): RefreshToken {
  return { ...token, own: randomBytes(ownBytes) };
}

export function formatRefreshToken({ tenantId, sessionId, family, own }: RefreshToken): string {
  const bytes = Buffer.concat([idToBytes(tenantId), idToBytes(sessionId), family, own]);
  return `pwr_${bytes.toString("base64url")}`;
}

/** Reads a token; undefined when the text cannot be one. */
export function parseRefreshToken(text: string): RefreshToken | undefined {
  const encoded = form.exec(text)?.[1];
  if (encoded === undefined) return undefined;
  const bytes = Buffer.from(encoded, "base64url");
  const family = 2 * idBytes;
  const own = family + familyBytes;
  return {
    tenantId: bytesToId(bytes.subarray(0, idBytes)),
    sessionId: bytesToId(bytes.subarray(idBytes, family)),
    family: bytes.subarray(family, own),
    own: bytes.subarray(own, own + ownBytes),
  };
}

/** What is stored of a secret. SHA-256 is enough: there is nothing to guess in 128 random bits and more. */
export function hashSecret(secret: Buffer): Buffer {
  return hash("sha256", secret, "buffer");
}

/** Whether the secret is the one of the hash. Without a hash it is not. */
export function matches(secret: Buffer, stored: Buffer | null): boolean {
  const hashed = hashSecret(secret);
  return stored !== null && stored.length === hashed.length && timingSafeEqual(hashed, stored);
}

function idToBytes(id: string): Buffer {
  return Buffer.from(id.replaceAll("-", ""), "hex");
}

function bytesToId(bytes: Buffer): string {
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
