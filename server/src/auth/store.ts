import { randomUUIDv7 } from "node:crypto";
import type { Insertable, Selectable } from "kysely";
import type { ApiKeysTable, TenantsTable, UsersTable } from "../db/schema.ts";
import type { LookupTransaction, TenantTransaction } from "../db/tenant.ts";

export type TenantRow = Selectable<TenantsTable>;
export type UserRow = Selectable<UsersTable>;
export type ApiKeyRow = Selectable<ApiKeysTable>;

/** Ids of resources: UUIDv7, so that new rows lie side by side in the index. */
export const newResourceId: () => string = randomUUIDv7;

/** Rejects with a unique violation when the slug is taken. */
export function insertTenant(trx: TenantTransaction, tenant: Insertable<TenantsTable>): Promise<TenantRow> {
  return trx.insertInto("tenants").values(tenant).returningAll().executeTakeFirstOrThrow();
}

export function getTenant(trx: TenantTransaction, id: string): Promise<TenantRow | undefined> {
  return trx.selectFrom("tenants").selectAll().where("id", "=", id).executeTakeFirst();
}

export function findTenantBySlug(trx: LookupTransaction, slug: string): Promise<TenantRow | undefined> {
  return trx.selectFrom("tenants").selectAll().where("slug", "=", slug).executeTakeFirst();
}

export function insertUser(trx: TenantTransaction, user: Insertable<UsersTable>): Promise<UserRow> {
  return trx.insertInto("users").values(user).returningAll().executeTakeFirstOrThrow();
}

export function getUser(trx: TenantTransaction, tenantId: string, id: string): Promise<UserRow | undefined> {
  return trx
    .selectFrom("users")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

export function findUserByEmail(
  trx: TenantTransaction,
  tenantId: string,
  email: string,
): Promise<UserRow | undefined> {
  return trx
    .selectFrom("users")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where(({ eb, fn }) => eb(fn<string>("lower", ["email"]), "=", email.toLowerCase()))
    .executeTakeFirst();
}

/** Replaces a password by one of the user's own. */
export async function setPassword(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
  passwordHash: string,
): Promise<void> {
  await trx
    .updateTable("users")
    .set({
      password_hash: passwordHash,
      must_change_password: false,
      temporary_password_expires_at: null,
      updated_at: new Date(),
    })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirstOrThrow();
}

export function insertApiKey(trx: TenantTransaction, key: Insertable<ApiKeysTable>): Promise<ApiKeyRow> {
  return trx.insertInto("api_keys").values(key).returningAll().executeTakeFirstOrThrow();
}

export function getApiKey(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<ApiKeyRow | undefined> {
  return trx
    .selectFrom("api_keys")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

export function findApiKeyByHash(trx: LookupTransaction, keyHash: Buffer): Promise<ApiKeyRow | undefined> {
  return trx.selectFrom("api_keys").selectAll().where("key_hash", "=", keyHash).executeTakeFirst();
}
