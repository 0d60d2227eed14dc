/** Access tokens: JSON Web Tokens (RFC 7519), EdDSA with keys from the database, or HS256 with a given secret. */

import { randomUUID } from "node:crypto";
import { type JWTPayload, jwtVerify, SignJWT } from "jose";
import type { AuthConfig } from "../config/auth.ts";
import { uuidForm } from "../db/uuid.ts";
import type { SigningKeys } from "./signing-keys/keys.ts";

/** What a token says, beside the registered claims. */
export interface TokenClaims {
  readonly userId: string;
  readonly tenantId: string;
  /** What the user may do is the session's to say, so that it changes at once. */
  readonly sessionId: string;
  /** The session's epoch: a new password makes the tokens before it void. */
  readonly epoch: number;
}

/** A verified token. */
export interface VerifiedToken extends TokenClaims {
  readonly expiresAtMs: number;
}

export interface Tokens {
  /** Signs a token that expires after `ttlSeconds`, or after the time given. */
  issue(claims: TokenClaims, ttlSeconds?: number): Promise<string>;
  /** Checks signature, algorithm, issuer, audience and expiry. Throws whatever jose throws. */
  verify(token: string): Promise<VerifiedToken>;
  readonly ttlSeconds: number;
}

const audience = "pulsewire";
const clockToleranceSeconds = 5;

/** Issues and checks tokens with these keys. */
export function createTokens(keys: SigningKeys, settings: AuthConfig): Tokens {
  const { issuer, accessTokenTtlSeconds } = settings;
  return {
    ttlSeconds: accessTokenTtlSeconds,
    async issue(claims, ttlSeconds = accessTokenTtlSeconds) {
      const { kid, key } = keys.current();
      return await new SignJWT({ tid: claims.tenantId, sid: claims.sessionId, ver: claims.epoch })
        .setProtectedHeader({ alg: keys.algorithm, typ: "JWT", ...(kid && { kid }) })
        .setSubject(claims.userId)
        .setIssuer(issuer)
        .setAudience(audience)
        .setJti(randomUUID())
        .setIssuedAt()
        .setExpirationTime(`${ttlSeconds}s`)
        .sign(key);
    },
    async verify(token) {
      const { payload } = await jwtVerify(token, ({ kid }) => keys.find(kid), {
        algorithms: [keys.algorithm],
        issuer,
        audience,
        typ: "JWT",
        clockTolerance: clockToleranceSeconds,
        requiredClaims: ["sub", "exp", "tid", "sid", "ver"],
      });
      return readClaims(payload);
    },
  };
}

function readClaims(payload: JWTPayload): VerifiedToken {
  for (const claim of ["sub", "tid", "sid"]) {
    if (!uuidForm.test(String(payload[claim]))) throw new Error(`the claim ${claim} is no id`);
  }
  return {
    userId: String(payload.sub),
    tenantId: String(payload.tid),
    sessionId: String(payload.sid),
    epoch: Number(payload.ver),
    expiresAtMs: Number(payload.exp) * 1000,
  };
}
