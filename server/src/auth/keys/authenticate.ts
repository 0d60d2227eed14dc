import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { Config } from "../../config.ts";
import type { Database } from "../../db/schema.ts";
import { withLookup } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import type { Caller } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { hashApiKey, isApiKeyShaped } from "./secret.ts";
import { findApiKeyByHash } from "./store.ts";

/** How long a key that was not found stays unknown, so that a wrong key does not cost a query per call. */
const unknownKeyTtlMs = 5_000;

interface Known {
  readonly caller: Caller | undefined;
  readonly expiresAtMs: number;
}

/** Finds the caller of an API key, or throws INVALID_API_KEY. A key that was seen lately costs no query. */
export function createKeyAuthenticator(
  db: Kysely<Database>,
  config: Config,
): (secret: string) => Promise<Caller> {
  const ttlMs = config.auth.apiKeyCacheTtlSeconds * 1_000;
  const known = new LRUCache<string, Known>({ max: config.limits.apiKeyCacheSize });
  const pending = new Map<string, Promise<Known>>();

  async function lookUp(keyHash: Buffer, cacheKey: string): Promise<Known> {
    const row = await withLookup(db, { apiKeyHash: keyHash }, (trx) => findApiKeyByHash(trx, keyHash));
    const now = Date.now();
    const usable = row && !row.revoked_at && (row.expires_at === null || row.expires_at.getTime() > now);
    const found: Known = usable
      ? {
          caller: {
            kind: "api-key",
            tenantId: row.tenant_id,
            userId: row.created_by ?? undefined,
            apiKeyId: row.id,
            sessionId: undefined,
            scopes: new Set(row.scopes.map((name) => Scope[name as keyof typeof Scope])),
            storeIds: row.store_ids,
            mustChangePassword: false,
          },
          expiresAtMs: Math.min(now + ttlMs, row.expires_at?.getTime() ?? Number.POSITIVE_INFINITY),
        }
      : { caller: undefined, expiresAtMs: now + unknownKeyTtlMs };
    known.set(cacheKey, found);
    return found;
  }

  return async (secret) => {
    if (!isApiKeyShaped(secret)) {
      throw failure(
        ErrorReason.INVALID_API_KEY,
        "the API key is misspelt: it must be 'evp_' and 43 characters with a valid checksum; copy it again",
      );
    }
    const keyHash = hashApiKey(secret);
    const cacheKey = keyHash.toString("base64");
    let found = known.get(cacheKey);
    if (!found || found.expiresAtMs <= Date.now()) {
      // Calls that arrive together share one look-up.
      let lookup = pending.get(cacheKey);
      if (!lookup) {
        lookup = lookUp(keyHash, cacheKey).finally(() => pending.delete(cacheKey));
        pending.set(cacheKey, lookup);
      }
      found = await lookup;
    }
    if (!found.caller) {
      throw failure(
        ErrorReason.INVALID_API_KEY,
        "the API key is unknown, expired or revoked; create a new one with AuthService.CreateApiKey",
      );
    }
    return found.caller;
  };
}
