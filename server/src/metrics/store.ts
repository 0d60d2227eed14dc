import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type { SeriesTable, StoresTable } from "../db/schema/metrics.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { type StoreStateWord, storeStatuses } from "./status/states.ts";

export type StoreRow = Selectable<StoresTable>;
export type SeriesRow = Selectable<SeriesTable>;

/** Rejects with a unique violation when the name is taken. */
export function insertStore(trx: TenantTransaction, store: Insertable<StoresTable>): Promise<StoreRow> {
  return trx.insertInto("stores").values(store).returningAll().executeTakeFirstOrThrow();
}

/** The store, which nobody changes or deletes until the transaction ends. */
export function lockStore(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<StoreRow | undefined> {
  return trx
    .selectFrom("stores")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .forUpdate()
    .executeTakeFirst();
}

export type StoreChanges = Partial<
  Pick<Updateable<StoresTable>, "name" | "description" | "expected_interval_ms" | "labels">
>;

/** Rejects with a unique violation when the new name is taken. The time of the change grows, and so the etag changes. */
export function updateStore(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
  changes: StoreChanges,
): Promise<StoreRow> {
  return trx
    .updateTable("stores")
    .set({ ...changes, updated_at: sql`greatest(now(), updated_at + interval '1 millisecond')` })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Deletes a store with its series; what is stored of their samples is removed later and cannot be reached any more. */
export async function deleteStore(trx: TenantTransaction, tenantId: string, id: string): Promise<void> {
  await sql`
    insert into deleted_series (tenant_id, ref)
    select tenant_id, ref from series where tenant_id = ${tenantId} and store_id = ${id}`.execute(trx);
  await trx.deleteFrom("stores").where("tenant_id", "=", tenantId).where("id", "=", id).execute();
}

export function getStore(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<StoreRow | undefined> {
  return trx
    .selectFrom("stores")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

export function findStoreByName(
  trx: TenantTransaction,
  tenantId: string,
  name: string,
): Promise<Pick<StoreRow, "id"> | undefined> {
  return trx
    .selectFrom("stores")
    .select("id")
    .where("tenant_id", "=", tenantId)
    .where("name", "=", name)
    .executeTakeFirst();
}

/** Which stores. Empty values do not narrow. */
export interface StoreQuery {
  readonly nameContains: string;
  readonly onlyIds: readonly string[];
  readonly state: StoreStateWord | undefined;
}

/** A page of stores by name, after the name `after`. */
export function listStores(
  trx: TenantTransaction,
  tenantId: string,
  { nameContains, onlyIds, state }: StoreQuery,
  limit: number,
  after: string | undefined,
): Promise<StoreRow[]> {
  let select = trx
    .selectFrom("stores")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("name")
    .limit(limit);
  if (nameContains) select = select.where(sql<boolean>`position(${nameContains} in name) > 0`);
  if (onlyIds.length > 0) select = select.where("id", "in", onlyIds);
  if (state)
    select = select.where(
      sql<boolean>`id in (select id from ${storeStatuses(tenantId)} as status where state = ${state})`,
    );
  if (after !== undefined) select = select.where("name", ">", after);
  return select.execute();
}

/** Which of these stores there are. */
export async function existingStores(
  trx: TenantTransaction,
  tenantId: string,
  ids: readonly string[],
): Promise<Set<string>> {
  const rows = await trx
    .selectFrom("stores")
    .select("id")
    .where("tenant_id", "=", tenantId)
    .where(sql<boolean>`id = any(${[...ids]}::uuid[])`)
    .execute();
  return new Set(rows.map(({ id }) => id));
}

/** Which series. Empty values do not narrow. */
export interface SeriesQuery {
  readonly storeId: string;
  readonly name: string;
  readonly nameContains: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Only these; undefined does not narrow. */
  readonly seriesIds?: readonly string[] | undefined;
}

/** Series by name, store and id, after the position `after` ([name, store id, id]). */
export function listSeries(
  trx: TenantTransaction,
  tenantId: string,
  query: SeriesQuery,
  limit?: number,
  after?: readonly string[],
): Promise<SeriesRow[]> {
  let select = trx
    .selectFrom("series")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("name")
    .orderBy("store_id")
    .orderBy("id");
  if (limit !== undefined) select = select.limit(limit);
  if (query.seriesIds) select = select.where(sql<boolean>`id = any(${[...query.seriesIds]}::uuid[])`);
  if (query.storeId) select = select.where("store_id", "=", query.storeId);
  if (query.name) select = select.where("name", "=", query.name);
  if (query.nameContains) select = select.where(sql<boolean>`position(${query.nameContains} in name) > 0`);
  if (Object.keys(query.labels).length > 0) {
    select = select.where(sql<boolean>`labels @> ${JSON.stringify(query.labels)}::jsonb`);
  }
  if (after) {
    const [name, storeId, id] = after;
    select = select.where(sql<boolean>`(name, store_id, id) > (${name}, ${storeId}::uuid, ${id}::uuid)`);
  }
  return select.execute();
}

/** What all series of one name have in common. */
export interface MetricRow {
  readonly name: string;
  readonly kind: string;
  readonly unit: string;
  readonly series_count: bigint;
}

/** Metrics by name, after `after`. Kind and unit are those of the newest series. */
export async function listMetrics(
  trx: TenantTransaction,
  tenantId: string,
  { storeId, nameContains }: Pick<SeriesQuery, "storeId" | "nameContains">,
  limit: number,
  after?: string,
): Promise<MetricRow[]> {
  const conditions = [sql`tenant_id = ${tenantId}::uuid`];
  if (storeId) conditions.push(sql`store_id = ${storeId}::uuid`);
  if (nameContains) conditions.push(sql`position(${nameContains} in name) > 0`);
  if (after !== undefined) conditions.push(sql`name > ${after}`);
  const { rows } = await sql<MetricRow>`
    select name, (array_agg(kind order by ref desc))[1] as kind, (array_agg(unit order by ref desc))[1] as unit,
      count(*) as series_count
    from series where ${sql.join(conditions, sql` and `)}
    group by name order by name limit ${limit}`.execute(trx);
  return rows;
}
