import { type Expression, type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type { TenantState, TenantsTable } from "../../db/schema/auth.ts";
import type { LookupTransaction, PlatformTransaction, TenantTransaction } from "../../db/tenant.ts";

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

/**
 * The tenant, locked until the transaction ends: whoever counts or changes what belongs to it waits in line. Writers of
 * data, which only refer to the tenant, do not.
 */
export function lockTenant(trx: TenantTransaction, id: string): Promise<TenantRow | undefined> {
  return trx.selectFrom("tenants").selectAll().where("id", "=", id).forNoKeyUpdate().executeTakeFirst();
}

export function updateTenant(
  trx: TenantTransaction,
  id: string,
  changes: Pick<Updateable<TenantsTable>, "name" | "contact_email" | "limits" | "state">,
): Promise<TenantRow> {
  return trx
    .updateTable("tenants")
    .set({ ...changes, updated_at: laterThan(sql.ref("updated_at")) })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Now, but never the time of the change before: an etag tells two changes apart by the millisecond. */
export function laterThan(updatedAt: Expression<unknown>) {
  return sql<Date>`greatest(clock_timestamp(), ${updatedAt} + interval '1 millisecond')`;
}

export interface TenantQuery {
  readonly nameContains: string;
  readonly state: TenantState | undefined;
}

/** A page of all tenants of the installation by slug, after the slug `after`. */
export function listTenants(
  trx: PlatformTransaction,
  { nameContains, state }: TenantQuery,
  limit: number,
  after: string | undefined,
): Promise<TenantRow[]> {
  let select = trx.selectFrom("tenants").selectAll().orderBy("slug").limit(limit);
  if (nameContains) {
    select = select.where(
      sql<boolean>`(position(lower(${nameContains}) in lower(name)) > 0 or position(lower(${nameContains}) in slug) > 0)`,
    );
  }
  if (state) select = select.where("state", "=", state);
  if (after !== undefined) select = select.where("slug", ">", after);
  return select.execute();
}
