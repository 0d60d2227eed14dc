/** Access tokens: JSON Web Tokens (RFC 7519), EdDSA with keys from the database, or HS256 with a given secret. */
import { randomUUID } from "node:crypto";
import {
  type CryptoKey,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from "jose";
import type { Kysely } from "kysely";
import type { Config } from "../config.ts";
import type { Database, Role } from "../db/schema.ts";

/** What a token says, beside the registered claims. */
export interface TokenClaims {
  readonly userId: string;
  readonly tenantId: string;
  readonly role: Role;
  readonly mustChangePassword: boolean;
}

/** A verified token. */
export interface VerifiedToken extends TokenClaims {
  readonly expiresAtMs: number;
}

export interface Tokens {
  /** Signs a token that expires after `ttlSeconds`. */
  issue(claims: TokenClaims): Promise<string>;
  /** Checks signature, algorithm, issuer, audience and expiry. Throws whatever jose throws. */
  verify(token: string): Promise<VerifiedToken>;
  readonly ttlSeconds: number;
}

const audience = "pulsewire";
const clockToleranceSeconds = 5;
const keyReloadIntervalMs = 5_000;

type Key = CryptoKey | Uint8Array;

/** Opens the token service; makes the installation's first signing key where there is none. */
export async function openTokens(db: Kysely<Database>, settings: Config["auth"]): Promise<Tokens> {
  const keys = settings.jwtSecret ? sharedSecret(settings.jwtSecret) : await signingKeys(db);
  const { issuer, accessTokenTtlSeconds } = settings;
  return {
    ttlSeconds: accessTokenTtlSeconds,
    async issue(claims) {
      const { kid, key } = keys.current();
      return await new SignJWT({ tid: claims.tenantId, role: claims.role, pwd: claims.mustChangePassword })
        .setProtectedHeader({ alg: keys.algorithm, typ: "JWT", ...(kid && { kid }) })
        .setSubject(claims.userId)
        .setIssuer(issuer)
        .setAudience(audience)
        .setJti(randomUUID())
        .setIssuedAt()
        .setExpirationTime(`${accessTokenTtlSeconds}s`)
        .sign(key);
    },
    async verify(token) {
      const { payload } = await jwtVerify(token, ({ kid }) => keys.find(kid), {
        algorithms: [keys.algorithm],
        issuer,
        audience,
        typ: "JWT",
        clockTolerance: clockToleranceSeconds,
        requiredClaims: ["sub", "exp", "tid", "role"],
      });
      return readClaims(payload);
    },
  };
}

function readClaims(payload: JWTPayload): VerifiedToken {
  return {
    userId: String(payload.sub),
    tenantId: String(payload.tid),
    role: payload.role as Role,
    mustChangePassword: payload.pwd === true,
    expiresAtMs: Number(payload.exp) * 1000,
  };
}

interface Keys {
  readonly algorithm: string;
  current(): { kid: string | undefined; key: Key };
  find(kid: string | undefined): Promise<Key>;
}

function sharedSecret(secret: string): Keys {
  const key = new TextEncoder().encode(secret);
  return { algorithm: "HS256", current: () => ({ kid: undefined, key }), find: async () => key };
}

async function signingKeys(db: Kysely<Database>): Promise<Keys> {
  const algorithm = "EdDSA";
  const publicKeys = new Map<string, Key>();
  let newest: { kid: string; key: Key } | undefined;
  let loadedAt = 0;

  const load = async () => {
    loadedAt = Date.now();
    const rows = await db
      .selectFrom("signing_keys")
      .selectAll()
      .orderBy("created_at")
      .orderBy("kid")
      .execute();
    for (const row of rows) {
      publicKeys.set(row.kid, await importJWK(row.public_jwk as JWK, algorithm));
      newest = { kid: row.kid, key: await importJWK(row.private_jwk as JWK, algorithm) };
    }
  };
  await load();
  if (!newest) {
    // Two servers that start at once make a key each; both are valid and known to both after the next load.
    const { publicKey, privateKey } = await generateKeyPair(algorithm, { extractable: true });
    await db
      .insertInto("signing_keys")
      .values({
        kid: randomUUID(),
        algorithm,
        public_jwk: JSON.stringify(await exportJWK(publicKey)),
        private_jwk: JSON.stringify(await exportJWK(privateKey)),
      })
      .execute();
    await load();
  }
  return {
    algorithm,
    current: () => {
      if (!newest) throw new Error("there is no signing key");
      return newest;
    },
    async find(kid) {
      if (kid && !publicKeys.has(kid) && Date.now() - loadedAt > keyReloadIntervalMs) await load();
      const key = kid && publicKeys.get(kid);
      if (!key) throw new Error("signed by an unknown key");
      return key;
    },
  };
}
