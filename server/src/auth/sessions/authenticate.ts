import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Config } from "../../config.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Caller } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { scopesOfRole } from "../roles.ts";
import type { Tokens } from "../tokens.ts";

/** Finds the caller of an access token, or throws INVALID_TOKEN. A token that was seen lately costs no signature. */
export function createTokenAuthenticator(tokens: Tokens, config: Config): (token: string) => Promise<Caller> {
  const known = new LRUCache<string, { caller: Caller; expiresAtMs: number }>({
    max: config.limits.apiKeyCacheSize,
  });
  return async (token) => {
    const cacheKey = hash("sha256", token, "base64");
    const found = known.get(cacheKey);
    if (found && found.expiresAtMs > Date.now()) return found.caller;
    const claims = await tokens.verify(token).catch((cause: unknown) => {
      throw failure(ErrorReason.INVALID_TOKEN, `the token is not valid (${explain(cause)}); log in again`, {
        cause,
      });
    });
    const caller: Caller = {
      kind: "user",
      tenantId: claims.tenantId,
      userId: claims.userId,
      apiKeyId: undefined,
      sessionId: undefined,
      scopes: scopesOfRole(claims.role, claims.mustChangePassword),
      storeIds: [],
      mustChangePassword: claims.mustChangePassword,
    };
    known.set(cacheKey, { caller, expiresAtMs: claims.expiresAtMs });
    return caller;
  };
}

function explain(cause: unknown): string {
  const code = (cause as { code?: string }).code;
  if (code === "ERR_JWT_EXPIRED") return "it has expired";
  if (code === "ERR_JWS_INVALID" || code === "ERR_JWT_INVALID") return "it is malformed";
  return "it was not issued for this service";
}
