/** Reads samples for whoever computes with them: queries, alert rules. How they are stored shows nowhere else. */
import { sql } from "kysely";
import { uuidArray } from "../db/binary-array.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { dayMs } from "./storage/blocks.ts";
import { readRuns } from "./storage/read-runs.ts";
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

/** The samples of one series, oldest first, one for each time. Not to be changed: others may read the same arrays. */
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
  const series = await selectSeries(trx, tenantId, selector);
  return await readSeries(trx, tenantId, series, fromMs, toMs);
}

/** The same for series that are known. */
export async function readSeries(
  trx: TenantTransaction,
  tenantId: string,
  series: readonly SeriesRow[],
  fromMs: number,
  toMs: number,
): Promise<SampleRun[]> {
  const refs = series.map(({ ref }) => Number(ref));
  const runs = new Map((await readRuns(trx, tenantId, refs, fromMs, toMs)).map((run) => [run.ref, run]));
  return series.flatMap((row) => {
    const run = runs.get(Number(row.ref));
    return run ? [{ series: row, timestampsMs: run.times, values: run.values }] : [];
  });
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
  const { rows } = await sql<{ id: string; ref: bigint }>`/* kept as refs_of_series */
    select id, ref from series where tenant_id = ${tenantId} and id = any(${uuidArray(seriesIds)}::uuid[])`.execute(
    trx,
  );
  const ids = new Map(rows.map(({ id, ref }) => [Number(ref), id]));
  const runs = await readRuns(trx, tenantId, [...ids.keys()], sinceMs, Date.now() + 2 * dayMs);
  return new Map(
    runs.map(({ ref, times, values }) => [
      ids.get(ref) as string,
      { ms: times.at(-1) as number, value: values.at(-1) as number },
    ]),
  );
}
