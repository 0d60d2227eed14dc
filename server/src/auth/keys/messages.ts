import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeySchema, ApiKeyState } from "../../gen/pulsewire/auth/v1/api_key_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import type { ApiKeyRow } from "./store.ts";

export function apiKeyMessage(row: ApiKeyRow): ApiKey {
  const expired = row.expires_at !== null && row.expires_at.getTime() <= Date.now();
  return create(ApiKeySchema, {
    id: row.id,
    tenantId: row.tenant_id,
    name: row.name,
    prefix: row.key_prefix,
    scopes: row.scopes.map((name) => Scope[name as keyof typeof Scope]),
    storeIds: row.store_ids,
    state: row.revoked_at ? ApiKeyState.REVOKED : expired ? ApiKeyState.EXPIRED : ApiKeyState.ACTIVE,
    createdAt: timestampFromDate(row.created_at),
    createdBy: row.created_by ?? "",
    ...(row.expires_at && { expiresAt: timestampFromDate(row.expires_at) }),
    ...(row.revoked_at && { revokedAt: timestampFromDate(row.revoked_at) }),
  });
}
