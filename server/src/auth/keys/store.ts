import { type Insertable, type Selectable, sql } from "kysely";
import type { ApiKeysTable } from "../../db/schema/auth.ts";
import type { LookupTransaction, TenantTransaction } from "../../db/tenant.ts";
import type { Use } from "./last-use.ts";

export type ApiKeyRow = Selectable<ApiKeysTable>;

export function insertApiKey(trx: TenantTransaction, key: Insertable<ApiKeysTable>): Promise<ApiKeyRow> {
  return trx.insertInto("api_keys").values(key).returningAll().executeTakeFirstOrThrow();
}

export function getApiKey(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<ApiKeyRow | undefined> {
  return selectApiKey(trx, tenantId, id).executeTakeFirst();
}

/** The key, locked until the transaction ends: of two rotations the second sees what the first has done. */
export function lockApiKey(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<ApiKeyRow | undefined> {
  return selectApiKey(trx, tenantId, id).forUpdate().executeTakeFirst();
}

function selectApiKey(trx: TenantTransaction, tenantId: string, id: string) {
  return trx.selectFrom("api_keys").selectAll().where("tenant_id", "=", tenantId).where("id", "=", id);
}

export function findApiKeyByHash(trx: LookupTransaction, keyHash: Buffer): Promise<ApiKeyRow | undefined> {
  return trx.selectFrom("api_keys").selectAll().where("key_hash", "=", keyHash).executeTakeFirst();
}

export interface ApiKeyQuery {
  /** Also those that are expired or revoked. */
  readonly includeInactive: boolean;
  /** Id of a user or key; undefined: whoever made them. */
  readonly createdBy: string | undefined;
}

/** A page of keys, newest first, after the key `after`. */
export function listApiKeys(
  trx: TenantTransaction,
  tenantId: string,
  { includeInactive, createdBy }: ApiKeyQuery,
  limit: number,
  after: string | undefined,
): Promise<ApiKeyRow[]> {
  let select = trx
    .selectFrom("api_keys")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("id", "desc")
    .limit(limit);
  if (!includeInactive) {
    select = select
      .where("revoked_at", "is", null)
      .where(({ or, eb }) => or([eb("expires_at", "is", null), eb("expires_at", ">", new Date())]));
  }
  if (createdBy) select = select.where("created_by", "=", createdBy);
  if (after) select = select.where("id", "<", after);
  return select.execute();
}

/** Changes a key that is there. */
export function updateApiKey(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<ApiKeyRow, "tenant_id" | "id">,
  changes: Partial<Pick<ApiKeyRow, "expires_at" | "revoked_at" | "rotated_to">>,
): Promise<ApiKeyRow> {
  return trx
    .updateTable("api_keys")
    .set(changes)
    .where("tenant_id", "=", tenant_id)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Writes when keys were last used, unless a later use, seen by another process, is there already. */
export async function setLastUses(
  trx: TenantTransaction,
  tenantId: string,
  uses: readonly Use[],
): Promise<void> {
  const ids = uses.map(({ apiKeyId }) => apiKeyId);
  const times = uses.map(({ usedAtMs }) => new Date(usedAtMs));
  const addresses = uses.map(({ address }) => address);
  await sql`
    update api_keys set last_used_at = used.at, last_used_address = used.address
    from unnest(${ids}::uuid[], ${times}::timestamptz[], ${addresses}::text[]) as used (id, at, address)
    where tenant_id = ${tenantId} and api_keys.id = used.id and (last_used_at is null or last_used_at < used.at)
  `.execute(trx);
}

/** Revokes the keys that somebody made and that can still be used; returns their ids. */
export async function revokeKeysOf(
  trx: TenantTransaction,
  tenantId: string,
  createdBy: string,
): Promise<string[]> {
  const now = new Date();
  const rows = await trx
    .updateTable("api_keys")
    .set({ revoked_at: now })
    .where("tenant_id", "=", tenantId)
    .where("created_by", "=", createdBy)
    .where("revoked_at", "is", null)
    .where(({ or, eb }) => or([eb("expires_at", "is", null), eb("expires_at", ">", now)]))
    .returning("id")
    .execute();
  return rows.map(({ id }) => id);
}
