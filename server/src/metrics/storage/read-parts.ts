/** Reads series for aggregation by hours or more: what a day comes to by the hour where that is known, its samples otherwise. */
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { dayMs } from "./blocks.ts";
import { batchRefs, dayNumber, rangesOf, readRuns } from "./read-runs.ts";
import { decodeRollup, type Hour } from "./rollup.ts";

/** A part of a series: samples, or what they come to. */
export type SeriesPart =
  | { readonly times: Float64Array; readonly values: Float64Array; readonly hours?: undefined }
  | { readonly hours: readonly Hour[] };

/**
 * The parts of each series from `fromMs` (inclusive) to `toMs` (exclusive), oldest first. Hours are given for whole
 * days from `hoursFromMs` on in which no two blocks and no batch have samples of the same hours of the series; all else is read as samples, so that late
 * samples count at once. The transaction must be repeatable read: it looks several times.
 */
export async function readParts(
  trx: TenantTransaction,
  tenantId: string,
  refs: readonly number[],
  fromMs: number,
  toMs: number,
  hoursFromMs: number,
): Promise<Map<number, SeriesPart[]>> {
  const rolled = await readHours(trx, tenantId, refs, hoursFromMs, toMs);
  const parts = new Map<number, { at: number; part: SeriesPart }[]>(refs.map((ref) => [ref, []]));
  for (const [day, hours] of rolled) {
    for (const [ref, list] of hours) parts.get(ref)?.push({ at: day, part: { hours: list } });
  }
  for (const { startMs, endMs, wanted } of rawRanges(refs, rolled, fromMs, toMs)) {
    for (const { ref, times, values } of await readRuns(trx, tenantId, wanted, startMs, endMs))
      parts.get(ref)?.push({ at: times[0] as number, part: { times, values } });
  }
  return new Map(
    [...parts].map(([ref, list]) => [ref, list.sort((a, b) => a.at - b.at).map(({ part }) => part)]),
  );
}

/** By day, its start in milliseconds: the hours of each series whose samples of the day they stand for, none where it has none. */
async function readHours(
  trx: TenantTransaction,
  tenantId: string,
  refs: readonly number[],
  fromMs: number,
  toMs: number,
): Promise<Map<number, Map<number, Hour[]>>> {
  const firstDay = Math.ceil(fromMs / dayMs);
  const endDay = Math.floor(toMs / dayMs);
  if (firstDay >= endDay) return new Map();
  const wanted = new Set(refs);
  const { rows } = await sql<{ day: number; first_ref: bigint; last_ref: bigint; rollup: Buffer | null }>`
    select day - date '1970-01-01' as day, first_ref, last_ref, rollup from sample_blocks
    where tenant_id = ${tenantId} and day >= ${dayNumber(firstDay * dayMs)} and day < ${dayNumber(endDay * dayMs)}
      and int8range(first_ref, last_ref, '[]') && ${rangesOf(refs)}::int8multirange
    order by day, min_ms`.execute(trx);
  const unrolled = await batchRefs(trx, tenantId, wanted, firstDay * dayMs, endDay * dayMs);
  const days = new Map<number, Map<number, Hour[]>>();
  for (const { day, first_ref, last_ref, rollup } of rows) {
    const startMs = day * dayMs;
    let hours = days.get(startMs);
    if (!hours) {
      hours = new Map();
      days.set(startMs, hours);
    }
    if (!rollup) {
      for (const ref of refs) {
        if (ref >= Number(first_ref) && ref <= Number(last_ref)) unrolled.add(`${ref} ${startMs}`);
      }
      continue;
    }
    for (const series of await decodeRollup(rollup, wanted)) {
      const list = hours.get(series.ref);
      if (list) list.push(...series.hours);
      else hours.set(series.ref, [...series.hours]);
    }
  }
  for (let startMs = firstDay * dayMs; startMs < endDay * dayMs; startMs += dayMs) {
    const hours = days.get(startMs) ?? new Map<number, Hour[]>();
    days.set(startMs, hours);
    for (const ref of refs) {
      const list = hours.get(ref) ?? [];
      list.sort((a, b) => a.startMs - b.startMs);
      if (unrolled.has(`${ref} ${startMs}`) || isDouble(list)) hours.delete(ref);
      else hours.set(ref, list);
    }
  }
  return days;
}

const isDouble = (hours: readonly Hour[]) =>
  hours.some(({ startMs }, index) => startMs === hours[index - 1]?.startMs);

/** The ranges of time that are to be read as samples, and of which series. */
function rawRanges(
  refs: readonly number[],
  rolled: ReadonlyMap<number, ReadonlyMap<number, readonly Hour[]>>,
  fromMs: number,
  toMs: number,
): { startMs: number; endMs: number; wanted: number[] }[] {
  const ranges: { startMs: number; endMs: number; wanted: number[] }[] = [];
  for (let startMs = fromMs; startMs < toMs; ) {
    const day = Math.floor(startMs / dayMs) * dayMs;
    const endMs = Math.min(toMs, day + dayMs);
    const hours = rolled.get(day);
    const wanted = hours ? refs.filter((ref) => !hours.has(ref)) : [...refs];
    const last = ranges.at(-1);
    if (last && last.endMs === startMs && sameRefs(last.wanted, wanted)) last.endMs = endMs;
    else if (wanted.length > 0) ranges.push({ startMs, endMs, wanted });
    startMs = endMs;
  }
  return ranges;
}

const sameRefs = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((ref, index) => ref === b[index]);
