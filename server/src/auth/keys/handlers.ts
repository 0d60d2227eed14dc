import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { ApiKeyState } from "../../gen/pulsewire/auth/v1/api_key_pb.js";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import { existingStores } from "../../metrics/store.ts";
import { enterAudit } from "../../rpc/audit.ts";
import { type Caller, callerOf, passwordChangeRequired } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { newResourceId } from "../ids.ts";
import { reachedTenant } from "../platform.ts";
import { gatewayScopes } from "../roles.ts";
import { requireRoom } from "../tenants/room.ts";
import { getTenant } from "../tenants/store.ts";
import { keyChange, keysChannel } from "./changes.ts";
import { apiKeyMessage, apiKeyState } from "./messages.ts";
import { type KeyBounds, requireBoundLike, requireOwnKey, requireScopesOf } from "./rules.ts";
import { apiKeyPrefix, hashApiKey, newApiKey } from "./secret.ts";
import * as store from "./store.ts";

const defaultPageSize = 100;
const defaultOverlapMs = 86_400_000;

/** Makes, lists, rotates and revokes API keys. */
export function apiKeyHandlers({
  bus,
  config,
  db,
  knownKeys,
  logger,
}: Pick<Context, "bus" | "config" | "db" | "knownKeys" | "logger">): Partial<
  ServiceImpl<typeof AuthService>
> {
  /** To be called after the commit; rejects when other processes may not have heard. */
  const tellChange = (apiKeyId: string): Promise<void> => {
    knownKeys.forget(apiKeyId);
    return bus.publish(keysChannel, keyChange(apiKeyId));
  };

  return {
    async createApiKey(request, context) {
      const caller = callerOf(context);
      if (caller.mustChangePassword) throw passwordChangeRequired();
      const tenantId = reachedTenant(caller, request.tenantId);
      const scopes = (request.scopes.length > 0 ? request.scopes : gatewayScopes).map((it) => Scope[it]);
      requireScopesOf(caller, "CreateApiKey", scopes);
      const bounds: KeyBounds = {
        store_ids: request.storeIds.map((id) => id.toLowerCase()),
        allowed_ip_ranges: request.allowedIpRanges,
        requests_per_minute: request.requestsPerMinute,
        expires_at: request.expiresAt ? timestampDate(request.expiresAt) : null,
      };
      const secret = newApiKey();
      const key = await withTenant(db, tenantId, async (trx) => {
        await requireRoom(trx, tenantId, "apiKeys", config.tenants.limits);
        await requireBoundLikeCaller(trx, caller, "CreateApiKey", bounds);
        await requireStores(trx, tenantId, bounds.store_ids);
        const row = { ...newRow(caller, tenantId, secret), ...bounds, name: request.name, scopes };
        const made = await store.insertApiKey(trx, row);
        await enterAudit(trx, tenantId, context, { resourceId: made.id });
        return made;
      });
      return { apiKey: apiKeyMessage(key), secret };
    },

    async listApiKeys({ includeInactive, createdBy, pageSize, pageToken, tenantId: given }, context) {
      const caller = callerOf(context);
      const tenantId = reachedTenant(caller, given);
      const identity = `api keys ${tenantId} ${includeInactive} ${createdBy}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      const query = { includeInactive, createdBy: createdBy || undefined };
      const rows = await withTenant(db, tenantId, async (trx) => {
        if (tenantId !== caller.tenantId && !(await getTenant(trx, tenantId)))
          throw notFound("tenant", given);
        return await store.listApiKeys(trx, tenantId, query, limit + 1, after);
      });
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.id]);
      return {
        apiKeys: page.map(apiKeyMessage),
        nextPageToken,
      };
    },

    async rotateApiKey({ apiKeyId, overlap, expiresAt, tenantId: given }, context) {
      const caller = callerOf(context);
      const tenantId = reachedTenant(caller, given);
      const secret = newApiKey();
      const overlapMs = overlap ? durationMs(overlap) : defaultOverlapMs;
      const [key, previous] = await withTenant(db, tenantId, async (trx) => {
        const old = await store.lockApiKey(trx, tenantId, apiKeyId);
        if (!old) throw notFound("api_key", apiKeyId);
        requireOwnKey(caller, "RotateApiKey", old);
        if (caller.mustChangePassword) throw passwordChangeRequired();
        requireActive(old);
        const { name, scopes, store_ids, allowed_ip_ranges, requests_per_minute } = old;
        const expires_at = expiresAt ? timestampDate(expiresAt) : old.expires_at;
        const bounds: KeyBounds = { store_ids, allowed_ip_ranges, requests_per_minute, expires_at };
        requireScopesOf(caller, "RotateApiKey", scopes);
        await requireBoundLikeCaller(trx, caller, "RotateApiKey", bounds);
        const row = { ...newRow(caller, tenantId, secret), ...bounds, name, scopes, rotated_from: old.id };
        const made = await store.insertApiKey(trx, row);
        const end = Date.now() + overlapMs;
        const changes = {
          expires_at: new Date(Math.min(end, old.expires_at?.getTime() ?? end)),
          rotated_to: made.id,
        };
        const updated = await store.updateApiKey(trx, old, changes);
        await enterAudit(trx, tenantId, context, {
          resourceId: old.id,
          details: { rotated_to: { new: made.id } },
        });
        return [made, updated];
      });
      // The secret is shown here only, so it must arrive even when the end of the old key is heard of late.
      await tellChange(previous.id).catch((err: unknown) =>
        logger.error({ err, apiKeyId }, "other processes could not be told that an API key was rotated"),
      );
      return { apiKey: apiKeyMessage(key), secret, previousApiKey: apiKeyMessage(previous) };
    },

    async revokeApiKey({ apiKeyId, tenantId: given }, context) {
      const caller = callerOf(context);
      const tenantId = reachedTenant(caller, given);
      const key = await withTenant(db, tenantId, async (trx) => {
        const found = await store.lockApiKey(trx, tenantId, apiKeyId);
        if (!found) throw notFound("api_key", apiKeyId);
        if (found.id !== caller.apiKeyId) requireOwnKey(caller, "RevokeApiKey", found);
        const ended = found.revoked_at
          ? found
          : await store.updateApiKey(trx, found, { revoked_at: new Date() });
        await enterAudit(trx, tenantId, context, { resourceId: found.id });
        return ended;
      });
      // Told also for a key that had ended: the call before may have failed to.
      await tellChange(key.id);
      return { apiKey: apiKeyMessage(key) };
    },
  };
}

function newRow(caller: Caller, tenantId: string, secret: string) {
  return {
    tenant_id: tenantId,
    id: newResourceId(),
    key_prefix: apiKeyPrefix(secret),
    key_hash: hashApiKey(secret),
    created_by: caller.apiKeyId ?? caller.userId ?? null,
  };
}

async function requireBoundLikeCaller(
  trx: TenantTransaction,
  caller: Caller,
  method: string,
  wanted: KeyBounds,
): Promise<void> {
  const own = caller.apiKeyId && (await store.getApiKey(trx, caller.tenantId, caller.apiKeyId));
  if (own) requireBoundLike(own, method, wanted);
}

function requireActive(key: store.ApiKeyRow): void {
  const state = apiKeyState(key);
  if (state === ApiKeyState.ACTIVE) return;
  throw failure(
    ErrorReason.FAILED_PRECONDITION,
    `the API key is ${ApiKeyState[state]}, and only an ACTIVE one can be rotated; create a new one`,
    { metadata: { resource: "api_key" } },
  );
}

async function requireStores(
  trx: TenantTransaction,
  tenantId: string,
  ids: readonly string[],
): Promise<void> {
  const existing = await existingStores(trx, tenantId, ids);
  const unknown = ids.find((id) => !existing.has(id));
  if (unknown) throw notFound("store", unknown);
}
