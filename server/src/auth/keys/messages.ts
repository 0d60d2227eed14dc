import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeySchema, ApiKeyState } from "../../gen/pulsewire/auth/v1/api_key_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import type { ApiKeyRow } from "./store.ts";

/** Whether a key can be used now. */
export function apiKeyState(
  row: Pick<ApiKeyRow, "revoked_at" | "expires_at" | "rotated_to">,
): Exclude<ApiKeyState, ApiKeyState.UNSPECIFIED> {
  if (row.revoked_at) return ApiKeyState.REVOKED;
  if (row.expires_at && row.expires_at.getTime() <= Date.now()) return ApiKeyState.EXPIRED;
  return row.rotated_to ? ApiKeyState.ROTATED : ApiKeyState.ACTIVE;
}

export function apiKeyMessage(row: ApiKeyRow): ApiKey {
  return create(ApiKeySchema, {
    id: row.id,
    tenantId: row.tenant_id,
    name: row.name,
    prefix: row.key_prefix,
    scopes: row.scopes.map((name) => Scope[name as keyof typeof Scope]),
    storeIds: row.store_ids,
    allowedIpRanges: row.allowed_ip_ranges,
    requestsPerMinute: row.requests_per_minute,
    state: apiKeyState(row),
    createdAt: timestampFromDate(row.created_at),
    createdBy: row.created_by ?? "",
    lastUsedAddress: row.last_used_address,
    rotatedFrom: row.rotated_from ?? "",
    rotatedTo: row.rotated_to ?? "",
    ...(row.expires_at && { expiresAt: timestampFromDate(row.expires_at) }),
    ...(row.last_used_at && { lastUsedAt: timestampFromDate(row.last_used_at) }),
    ...(row.revoked_at && { revokedAt: timestampFromDate(row.revoked_at) }),
  });
}
