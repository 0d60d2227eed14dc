/** Reads samples for whoever computes with them: queries, alert rules. How they are stored shows nowhere else. */
import { sql } from "kysely";
import type { TenantTransaction } from "../db/tenant.ts";
import { listSeries, type SeriesRow } from "./store.ts";

/** Which series. What is not given does not narrow. */
export interface SeriesSelector {
  readonly storeId?: string;
  /** Name of the metric, exactly. */
  readonly name?: string;
  /** Labels that a series must have. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly seriesIds?: readonly string[];
}

/** The samples of one series, oldest first, one for each time. */
export interface SampleRun {
  readonly series: SeriesRow;
  /** Milliseconds since 1970, ascending. */
  readonly timestampsMs: Float64Array;
  readonly values: Float64Array;
}

/** A sample without its series. */
export interface LatestSample {
  /** Milliseconds since 1970. */
  readonly ms: number;
  readonly value: number;
}

/** Reads samples from `fromMs` (inclusive) to `toMs` (exclusive). Series without samples in the range are left out. */
export async function readSamples(
  trx: TenantTransaction,
  tenantId: string,
  selector: SeriesSelector,
  fromMs: number,
  toMs: number,
): Promise<SampleRun[]> {
  const series = new Map((await selectSeries(trx, tenantId, selector)).map((row) => [row.id, row]));
  const { rows } = await sql<{ id: string; times: number[]; values: number[] }>`
    select series_id as id, array_agg(extract(epoch from ts)::double precision * 1000 order by ts) as times,
      array_agg(value order by ts) as values
    from samples
    where tenant_id = ${tenantId} and series_id = any(${[...series.keys()]}::uuid[])
      and ts >= to_timestamp(${fromMs}::double precision / 1000) and ts < to_timestamp(${toMs}::double precision / 1000)
    group by series_id`.execute(trx);
  return rows.map(({ id, times, values }) => ({
    series: series.get(id) as SeriesRow,
    timestampsMs: Float64Array.from(times),
    values: Float64Array.from(values),
  }));
}

/** The series that a selector matches, by name, store and id. */
export async function selectSeries(
  trx: TenantTransaction,
  tenantId: string,
  { storeId = "", name = "", labels = {}, seriesIds }: SeriesSelector,
): Promise<SeriesRow[]> {
  return await listSeries(trx, tenantId, { storeId, name, nameContains: "", labels, seriesIds });
}

/**
 * The latest sample of each series whose time is at or after `sinceMs`, by series id; those without one are left out. Cheap enough to be
 * asked every second for thousands of series, as long as `sinceMs` lies minutes back and not days.
 */
export async function readLatest(
  trx: TenantTransaction,
  tenantId: string,
  seriesIds: readonly string[],
  sinceMs: number,
): Promise<Map<string, LatestSample>> {
  const { rows } = await sql<{ id: string; ms: number; value: number }>`
    select id, extract(epoch from ts)::double precision * 1000 as ms, value
    from unnest(${[...seriesIds]}::uuid[]) as wanted (id)
    cross join lateral (
      select ts, value from samples
      where tenant_id = ${tenantId} and series_id = wanted.id
        and ts >= to_timestamp(${sinceMs}::double precision / 1000)
      order by ts desc limit 1
    ) as latest`.execute(trx);
  return new Map(rows.map(({ id, ms, value }) => [id, { ms, value }]));
}
