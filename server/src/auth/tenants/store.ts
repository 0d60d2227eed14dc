import type { Insertable, Selectable } from "kysely";
import type { TenantsTable } from "../../db/schema.ts";
import type { LookupTransaction, TenantTransaction } from "../../db/tenant.ts";

export type TenantRow = Selectable<TenantsTable>;

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
