import type { Kysely } from "kysely";
import type { Config } from "../../config/config.ts";
import type { Database } from "../../db/schema.ts";
import { withLookup } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import { addressRanges } from "../../rpc/address-ranges.ts";
import { blame, type Caller } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { createSecretHashes } from "./hashes.ts";
import type { KnownKey, KnownKeys } from "./known-keys.ts";
import type { LastUse } from "./last-use.ts";
import { hashApiKey, isApiKeyShaped } from "./secret.ts";
import { type ApiKeyRow, findApiKeyByHash } from "./store.ts";

/** What the authenticator works with. */
export interface KeyAuthenticatorParts {
  readonly db: Kysely<Database>;
  readonly config: Config;
  readonly known: KnownKeys;
  readonly lastUse: LastUse;
}

/**
 * Finds the caller of an API key that is used from an address. Throws INVALID_API_KEY, and KEY_RESTRICTED where the key
 * is not for the address. A key that was seen lately costs no query and no promise.
 */
export function createKeyAuthenticator({
  db,
  config,
  known,
  lastUse,
}: KeyAuthenticatorParts): (secret: string, address: string) => Caller | Promise<Caller> {
  const ttlMs = config.auth.apiKeyCacheTtlSeconds * 1_000;
  const pending = new Map<string, Promise<KnownKey | undefined>>();
  const hashes = createSecretHashes();

  const lookUp = async (keyHash: Buffer, cacheKey: string): Promise<KnownKey | undefined> => {
    const mayRemember = known.reading();
    const loadedAtMs = Date.now();
    const row = await withLookup(db, { apiKeyHash: keyHash }, (trx) => findApiKeyByHash(trx, keyHash));
    if (!row || row.revoked_at || (row.expires_at && row.expires_at.getTime() <= Date.now())) {
      known.setUnknown(cacheKey);
      return undefined;
    }
    const expiresAtMs = Math.min(loadedAtMs + ttlMs, row.expires_at?.getTime() ?? Number.POSITIVE_INFINITY);
    const key = knownKey(row, loadedAtMs, expiresAtMs);
    if (mayRemember()) known.set(cacheKey, key);
    return key;
  };

  const find = async (secret: string, cacheKey: string): Promise<KnownKey | undefined> => {
    if (!isApiKeyShaped(secret)) {
      throw failure(
        ErrorReason.INVALID_API_KEY,
        "the API key is misspelt: it must be 'evp_' and 43 characters with a valid checksum; copy it again",
      );
    }
    if (known.isUnknown(cacheKey)) return undefined;
    // Calls that arrive together share one look-up.
    let lookup = pending.get(cacheKey);
    if (!lookup) {
      lookup = lookUp(hashApiKey(secret), cacheKey).finally(() => pending.delete(cacheKey));
      pending.set(cacheKey, lookup);
    }
    return await lookup;
  };

  const callerOf = (key: KnownKey | undefined, address: string): Caller => {
    if (!key) {
      throw failure(
        ErrorReason.INVALID_API_KEY,
        "the API key is unknown, expired or revoked; create a new one with AuthService.CreateApiKey",
      );
    }
    const { caller, addresses } = key;
    if (addresses && !addresses.has(address)) throw blame(wrongAddress(address), caller);
    lastUse.note(caller.tenantId, caller.apiKeyId, address);
    return caller;
  };

  return (secret, address) => {
    const cacheKey = hashes.of(secret);
    const key = known.get(cacheKey);
    if (!key) return find(secret, cacheKey).then((found) => callerOf(found, address));
    hashes.keep(secret, cacheKey);
    return callerOf(key, address);
  };
}

function knownKey(row: ApiKeyRow, loadedAtMs: number, expiresAtMs: number): KnownKey {
  return {
    caller: {
      kind: "api-key",
      tenantId: row.tenant_id,
      userId: undefined,
      apiKeyId: row.id,
      name: row.name,
      sessionId: undefined,
      expiresAtMs: row.expires_at?.getTime(),
      scopes: new Set(row.scopes.map((name) => Scope[name as keyof typeof Scope])),
      storeIds: row.store_ids,
      requestsPerMinute: row.requests_per_minute,
      mustChangePassword: false,
    },
    addresses: row.allowed_ip_ranges.length > 0 ? addressRanges(row.allowed_ip_ranges) : undefined,
    loadedAtMs,
    expiresAtMs,
  };
}

function wrongAddress(address: string) {
  return failure(
    ErrorReason.KEY_RESTRICTED,
    `this API key may not be used from ${address || "an unknown address"}; its owner can rotate it or make another`,
    { metadata: { restriction: "allowed_ip_ranges", address } },
  );
}
