import type { Insertable, Selectable } from "kysely";
import type { ApiKeysTable } from "../../db/schema.ts";
import type { LookupTransaction, TenantTransaction } from "../../db/tenant.ts";

export type ApiKeyRow = Selectable<ApiKeysTable>;

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
