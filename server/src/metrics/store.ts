import { type Insertable, type Selectable, sql } from "kysely";
import type { SeriesTable, StoresTable } from "../db/schema.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import type { SampleItem } from "./samples.ts";

export type StoreRow = Selectable<StoresTable>;
export type SeriesRow = Selectable<SeriesTable>;

/** Rejects with a unique violation when the name is taken. */
export function insertStore(trx: TenantTransaction, store: Insertable<StoresTable>): Promise<StoreRow> {
  return trx.insertInto("stores").values(store).returningAll().executeTakeFirstOrThrow();
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

/** A page of stores by name, after the name `after`; of `onlyIds` alone unless that is empty. */
export function listStores(
  trx: TenantTransaction,
  tenantId: string,
  nameContains: string,
  onlyIds: readonly string[],
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

/** Makes the series that are missing and returns their ids. Kind and unit stay as they were first. */
export async function insertSeries(
  trx: TenantTransaction,
  tenantId: string,
  items: readonly SampleItem[],
): Promise<Set<string>> {
  const series = [...new Map(items.map((item) => [item.series.id, item.series])).values()];
  if (series.length === 0) return new Set();
  series.sort((a, b) => (a.id < b.id ? -1 : 1));
  const { rows } = await sql<{ id: string }>`
    insert into series (tenant_id, id, store_id, name, labels, kind, unit)
    select ${tenantId}::uuid, id, store_id, name, labels, kind, unit
    from unnest(
      ${series.map(({ id }) => id)}::uuid[], ${series.map(({ storeId }) => storeId)}::uuid[],
      ${series.map(({ name }) => name)}::text[], ${series.map(({ labels }) => JSON.stringify(labels))}::jsonb[],
      ${series.map(({ kind }) => kind)}::text[], ${series.map(({ unit }) => unit)}::text[]
    ) as t (id, store_id, name, labels, kind, unit)
    on conflict do nothing
    returning id`.execute(trx);
  return new Set(rows.map(({ id }) => id));
}

/** Writes samples; where one is there already, the later value stands. */
export async function insertSamples(
  trx: TenantTransaction,
  tenantId: string,
  items: readonly SampleItem[],
): Promise<void> {
  // One statement must not touch a row twice, and two flushes must touch rows in the same order.
  const points = new Map<string, { series: string; time: number; value: number }>();
  for (const { series, timestampsMs, values } of items) {
    timestampsMs.forEach((time, index) => {
      points.set(`${series.id}${time}`, { series: series.id, time, value: values[index] as number });
    });
  }
  if (points.size === 0) return;
  const rows = [...points.values()].sort((a, b) =>
    a.series < b.series ? -1 : a.series > b.series ? 1 : a.time - b.time,
  );
  await sql`
    insert into samples (tenant_id, series_id, ts, value)
    select ${tenantId}::uuid, series_id, to_timestamp(ms / 1000), value
    from unnest(
      ${rows.map(({ series }) => series)}::uuid[], ${rows.map(({ time }) => time)}::double precision[],
      ${rows.map(({ value }) => value)}::double precision[]
    ) as t (series_id, ms, value)
    on conflict (tenant_id, series_id, ts) do update set value = excluded.value`.execute(trx);
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
