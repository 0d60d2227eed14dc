import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Config } from "../../config/config.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Caller } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { withPlatformScope } from "../platform.ts";
import { scopesOfRole } from "../roles.ts";
import type { Tokens, VerifiedToken } from "../tokens.ts";
import type { KnownSession, Standings } from "./standings.ts";

interface KnownToken {
  readonly claims: VerifiedToken;
  /** What `caller` was made from. */
  readonly session: KnownSession;
  readonly caller: Caller;
}

/** Knows the callers of access tokens of this server. */
export interface TokenAuthenticator {
  /** The caller of a token that was seen lately; undefined: ask `fromToken`. */
  recall(token: string): Caller | undefined;
  fromToken(token: string): Promise<Caller>;
}

/**
 * Finds the caller of an access token of this server. Throws INVALID_TOKEN, also when the session has ended or the user
 * may not sign in any more. A token that was seen lately costs no signature and no query.
 */
export function createTokenAuthenticator(
  tokens: Tokens,
  standings: Standings,
  config: Config,
): TokenAuthenticator {
  const known = new LRUCache<string, KnownToken>({ max: config.auth.apiKeyCacheSize });
  const isAlive = ({ claims }: KnownToken) => claims.expiresAtMs > Date.now();
  return {
    recall(token) {
      const found = known.get(cacheKeyOf(token));
      return found && isAlive(found) && standings.isCurrent(found.session) ? found.caller : undefined;
    },
    async fromToken(token) {
      const cacheKey = cacheKeyOf(token);
      const found = known.get(cacheKey);
      const claims = found && isAlive(found) ? found.claims : await verify(tokens, token);
      const session = await standings.find(claims.tenantId, claims.sessionId);
      const caller = callerOfSession(claims, session, config);
      known.set(cacheKey, { claims, session, caller });
      return caller;
    },
  };
}

const cacheKeyOf = (token: string) => hash("sha256", token, "base64");

async function verify(tokens: Tokens, token: string): Promise<VerifiedToken> {
  return await tokens.verify(token).catch((cause: unknown) => {
    // The look-up of a key that is not known yet can fail for want of the database, which says nothing of the token.
    if (classifyDatabaseError(cause)) throw cause;
    throw failure(ErrorReason.INVALID_TOKEN, `the token is not valid (${explain(cause)}); log in again`, {
      cause,
    });
  });
}

function callerOfSession(claims: VerifiedToken, { standing }: KnownSession, config: Config): Caller {
  if (!standing || standing.epoch !== claims.epoch || standing.user_id !== claims.userId) {
    throw failure(ErrorReason.INVALID_TOKEN, "the token's session has ended; log in again");
  }
  if (standing.user_state !== "ACTIVE") {
    throw failure(ErrorReason.INVALID_TOKEN, "the token's user may not sign in any more; ask an admin");
  }
  const { role, restricted, email, slug } = standing;
  return {
    kind: "user",
    tenantId: claims.tenantId,
    userId: claims.userId,
    apiKeyId: undefined,
    name: email,
    sessionId: claims.sessionId,
    role,
    expiresAtMs: claims.expiresAtMs,
    scopes: withPlatformScope(config, scopesOfRole(role, restricted), {
      email,
      tenantSlug: slug,
      mustChangePassword: restricted,
    }),
    storeIds: [],
    mustChangePassword: restricted,
  };
}

function explain(cause: unknown): string {
  const code = (cause as { code?: string }).code;
  if (code === "ERR_JWT_EXPIRED") return "it has expired";
  if (code === "ERR_JWS_INVALID" || code === "ERR_JWT_INVALID") return "it is malformed";
  return "it was not issued for this service";
}
