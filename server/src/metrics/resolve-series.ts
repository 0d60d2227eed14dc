import { sql } from "kysely";
import type { TenantTransaction } from "../db/tenant.ts";
import { isWritten, type PendingCall, type SampleResult } from "./sample-batch.ts";
import type { WrittenSeries } from "./series-cache.ts";

/** Most series that a tenant may have; 0: no limit. */
export type SeriesLimit = (tenantId: string) => Promise<bigint>;

/**
 * Finds the series of calls that are not known yet, and makes those that are missing, as long as the tenant may have more: further
 * ones are refused, and with them the calls that want all or nothing. Runs that are refused already are passed over.
 */
export async function resolveSeries(
  trx: TenantTransaction,
  tenantId: string,
  calls: readonly PendingCall[],
  seriesLimit: SeriesLimit,
): Promise<void> {
  const wanted = calls
    .filter(isWritten)
    .map((call) => ({ ...call, unknown: unknownRuns(call) }))
    .filter(({ unknown }) => unknown.length > 0);
  if (wanted.length === 0) return;
  const ids = new Set(wanted.flatMap(({ unknown }) => unknown.map(({ series }) => series.id)));
  const refs = await findRefs(trx, tenantId, [...ids]);

  const missing = ids.size - refs.size;
  let room = missing > 0 ? await roomFor(trx, tenantId, missing, seriesLimit) : 0;
  const made = new Map<string, { series: WrittenSeries; result: SampleResult }>();
  for (const { unknown, allowPartial, result } of wanted) {
    const lacking = unknown.filter(({ series }) => !refs.has(series.id) && !made.has(series.id));
    const distinct = new Set(lacking.map(({ series }) => series.id));
    const all = distinct.size <= room;
    for (const { series, run } of lacking) {
      if (made.has(series.id)) continue;
      if ((all || allowPartial) && room > 0) {
        made.set(series.id, { series, result });
        room--;
      } else {
        result.refused.set(run, "TENANT_LIMIT");
      }
    }
  }
  const inserted = await insertSeries(
    trx,
    tenantId,
    [...made.values()].map(({ series }) => series),
  );
  for (const [id, { result }] of made) if (inserted.has(id)) result.newSeries++;
  const others = [...made.keys()].filter((id) => !inserted.has(id));
  for (const found of [inserted, await findRefs(trx, tenantId, others)])
    for (const [id, ref] of found) refs.set(id, ref);
  for (const { unknown, result } of wanted) {
    for (const { series, run } of unknown) {
      if (!result.refused.has(run)) series.ref = refs.get(series.id) ?? 0;
    }
  }
}

function unknownRuns({ batch, result }: PendingCall) {
  const unknown: { series: WrittenSeries; run: number }[] = [];
  batch.series.forEach((series, run) => {
    if (series.definition && !result.refused.has(run)) unknown.push({ series, run });
  });
  return unknown;
}

async function findRefs(
  trx: TenantTransaction,
  tenantId: string,
  ids: readonly string[],
): Promise<Map<string, number>> {
  if (ids.length === 0) return new Map();
  const { rows } = await sql<{ id: string; ref: bigint }>`
    select id, ref from series where tenant_id = ${tenantId} and id = any(${[...ids]}::uuid[])`.execute(trx);
  return new Map(rows.map(({ id, ref }) => [id, Number(ref)]));
}

/** How many of these the tenant may still make. With a limit, only one transaction at a time makes series of a tenant. */
async function roomFor(
  trx: TenantTransaction,
  tenantId: string,
  missing: number,
  seriesLimit: SeriesLimit,
): Promise<number> {
  const limit = await seriesLimit(tenantId);
  if (limit === 0n) return missing;
  await sql`select pg_advisory_xact_lock(hashtextextended(${`series ${tenantId}`}, 0))`.execute(trx);
  const { rows } = await sql<{ n: bigint }>`
    select count(*) as n from series where tenant_id = ${tenantId}`.execute(trx);
  const free = limit - (rows[0]?.n ?? 0n);
  return free > 0n ? Number(free) : 0;
}

/** Makes series; the refs of those that nobody else has just made. Kind and unit stay as they were first. */
async function insertSeries(
  trx: TenantTransaction,
  tenantId: string,
  series: readonly WrittenSeries[],
): Promise<Map<string, number>> {
  if (series.length === 0) return new Map();
  // Always the same order, so that two flushes never wait for each other crosswise.
  const sorted = series.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const column = (of: (definition: NonNullable<WrittenSeries["definition"]>) => string) =>
    sorted.map(({ definition }) => (definition ? of(definition) : ""));
  const { rows } = await sql<{ id: string; ref: bigint }>`
    insert into series (tenant_id, id, store_id, name, labels, kind, unit)
    select ${tenantId}::uuid, id, store_id, name, labels, kind, unit
    from unnest(
      ${sorted.map(({ id }) => id)}::uuid[], ${sorted.map(({ storeId }) => storeId)}::uuid[],
      ${column(({ name }) => name)}::text[], ${column(({ labels }) => JSON.stringify(labels))}::jsonb[],
      ${column(({ kind }) => kind)}::text[], ${column(({ unit }) => unit)}::text[]
    ) as t (id, store_id, name, labels, kind, unit)
    on conflict do nothing
    returning id, ref`.execute(trx);
  return new Map(rows.map(({ id, ref }) => [id, Number(ref)]));
}
