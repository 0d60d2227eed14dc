/** Which rows make up a range of time. */
import { sql } from "kysely";
import { int2Array } from "../../db/binary-array.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { levelMs } from "./levels.ts";
import { timesOf } from "./store.ts";
import { decodeSummary, type Summary } from "./summary.ts";

/** A range of time in milliseconds, the end not included. */
export type Range = readonly [fromMs: number, untilMs: number];

/** A row of a period. */
export interface RollupRow {
  readonly level: number;
  readonly bucketMs: number;
  readonly version: string;
  readonly summary: Summary;
}

/**
 * The rows that together make up some ranges, the longest periods that are there and no longer than `maxLevel`: nothing twice,
 * nothing missing. To be run in a transaction with one snapshot, or under the lock. The ranges are in the order of time and
 * begin and end with whole minutes.
 */
export async function coverOf(
  trx: TenantTransaction,
  tenantId: string,
  ranges: readonly Range[],
  maxLevel: number,
): Promise<RollupRow[]> {
  // As if every period were there: then this one statement finds all. Where some are not, more follow.
  const hoped = coverIfAllAreThere(ranges, maxLevel);
  const early = Map.groupBy(await readRows(trx, tenantId, hoped), ({ level }) => level);
  const cover: RollupRow[] = [];
  let gaps = ranges;
  for (let level = maxLevel; level >= 0 && gaps.length > 0; level--) {
    const length = levelMs[level] as number;
    const whole = wholePeriods(gaps, length);
    const left = whole.flatMap((range) => without(range, hoped[level] ?? []));
    const late = left.length > 0 ? await readRows(trx, tenantId, { [level]: left }) : [];
    const found = [...(early.get(level) ?? []), ...late].sort((a, b) => a.bucketMs - b.bucketMs);
    cover.push(...found);
    const there = found.map(({ bucketMs }): Range => [bucketMs, bucketMs + length]);
    gaps = gaps.flatMap((gap) => without(gap, there));
  }
  return cover;
}

/** Ranges by level. */
type Wanted = Readonly<Record<number, readonly Range[]>>;

function coverIfAllAreThere(ranges: readonly Range[], maxLevel: number): Wanted {
  const wanted: Record<number, readonly Range[]> = {};
  let gaps = ranges;
  for (let level = maxLevel; level >= 0 && gaps.length > 0; level--) {
    const whole = wholePeriods(gaps, levelMs[level] as number);
    wanted[level] = whole;
    gaps = gaps.flatMap((gap) => without(gap, whole));
  }
  return wanted;
}

/** The periods of a length that lie in ranges as a whole. */
function wholePeriods(ranges: readonly Range[], length: number): Range[] {
  return ranges.flatMap(([from, until]): Range[] => {
    const [first, end] = [Math.ceil(from / length) * length, Math.floor(until / length) * length];
    return first < end ? [[first, end]] : [];
  });
}

/** What is left of a range without others, which are in the order of time and do not overlap. */
function without([from, until]: Range, others: readonly Range[]): Range[] {
  const left: Range[] = [];
  let at = from;
  for (const [start, end] of others) {
    if (end <= at) continue;
    if (start >= until) break;
    if (start > at) left.push([at, start]);
    at = end;
  }
  if (at < until) left.push([at, until]);
  return left;
}

/** `offset 0` keeps it a look into the index for each range: as a join, which knows no ranges yet, it may be planned to read all rows. */
async function readRows(trx: TenantTransaction, tenantId: string, wanted: Wanted): Promise<RollupRow[]> {
  const ranges = Object.entries(wanted).flatMap(([level, all]) =>
    all.map(([from, until]) => ({ level: Number(level), from, until })),
  );
  if (ranges.length === 0) return [];
  const { rows } = await sql<{
    level: number;
    bucket: Date;
    version: string;
    summary: unknown;
  }>`/* kept as read_rollups */
    select wanted.level, r.bucket, r.version, r.summary
    from unnest(${int2Array(ranges.map(({ level }) => level))}::smallint[],
      ${timesOf(ranges.map(({ from }) => from))}::timestamptz[],
      ${timesOf(ranges.map(({ until }) => until))}::timestamptz[]) as wanted (level, first, until)
    cross join lateral (
      select bucket, version::text, summary from event_rollups
      where tenant_id = ${tenantId}::uuid and level = wanted.level and bucket >= wanted.first and bucket < wanted.until
      offset 0
    ) as r`.execute(trx);
  return rows.map(({ level, bucket, version, summary }) => ({
    level,
    bucketMs: bucket.getTime(),
    version,
    summary: decodeSummary(summary),
  }));
}
