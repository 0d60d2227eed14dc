/** Reads samples for whoever computes with them: queries, alert rules. How they are stored shows nowhere else. */
import type { TenantTransaction } from "../db/tenant.ts";
import { readParts, type SeriesPart } from "./storage/read-parts.ts";
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

/** A series in parts, oldest first: samples, or what they come to by the hour. */
export interface SeriesParts {
  readonly series: SeriesRow;
  readonly parts: readonly SeriesPart[];
}

/** As `readSeries`, but from `hoursFromMs` on hours take the place of samples where they are known. The transaction must be repeatable read. */
export async function readSeriesParts(
  trx: TenantTransaction,
  tenantId: string,
  series: readonly SeriesRow[],
  fromMs: number,
  toMs: number,
  hoursFromMs: number,
): Promise<SeriesParts[]> {
  const refs = series.map(({ ref }) => Number(ref));
  const parts = await readParts(trx, tenantId, refs, fromMs, toMs, hoursFromMs);
  return series.map((row) => ({ series: row, parts: parts.get(Number(row.ref)) ?? [] }));
}

/** The series that a selector matches, by name, store and id. */
export async function selectSeries(
  trx: TenantTransaction,
  tenantId: string,
  { storeId = "", name = "", labels = {}, seriesIds }: SeriesSelector,
): Promise<SeriesRow[]> {
  return await listSeries(trx, tenantId, { storeId, name, nameContains: "", labels, seriesIds });
}
