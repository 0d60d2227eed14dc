import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeySchema, ApiKeyState } from "../gen/pulsewire/auth/v1/api_key_pb.js";
import { type Tenant, TenantSchema, TenantState } from "../gen/pulsewire/auth/v1/tenant_pb.js";
import { type User, UserSchema, UserState } from "../gen/pulsewire/auth/v1/user_pb.js";
import { Scope } from "../gen/pulsewire/options/v1/access_pb.js";
import { roleOf } from "./roles.ts";
import type { ApiKeyRow, TenantRow, UserRow } from "./store.ts";

export function tenantMessage(row: TenantRow): Tenant {
  return create(TenantSchema, {
    id: row.id,
    name: row.name,
    slug: row.slug,
    contactEmail: row.contact_email,
    state: TenantState.ACTIVE,
    namespace: `tenant-${row.id}`,
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: etagOf(row.updated_at),
  });
}

export function userMessage(row: UserRow): User {
  return create(UserSchema, {
    id: row.id,
    tenantId: row.tenant_id,
    email: row.email,
    displayName: row.display_name,
    role: roleOf[row.role],
    state: UserState.ACTIVE,
    mustChangePassword: row.must_change_password,
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: etagOf(row.updated_at),
  });
}

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

function etagOf(updatedAt: Date): string {
  return updatedAt.getTime().toString(36);
}
