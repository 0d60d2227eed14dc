import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";

/** The number of a new run; whoever holds the tenant's storage gets a greater one than anybody before. */
export async function nextRun(trx: TenantTransaction): Promise<bigint> {
  const { rows } = await sql<{ run: bigint }>`select nextval('sample_runs') as run`.execute(trx);
  return (rows[0] as { run: bigint }).run;
}

/** A run of a day. */
export interface DayRun {
  readonly run: bigint;
  readonly level: number;
  readonly samples: number;
  readonly writtenAt: Date;
}

/** The runs of a day, oldest first. */
export async function runsOf(trx: TenantTransaction, tenantId: string, day: string): Promise<DayRun[]> {
  const { rows } = await sql<DayRun>`
    select run, max(level) as level, sum(samples)::float8 as samples, max(written_at) as "writtenAt"
    from sample_blocks where tenant_id = ${tenantId} and day = ${day} group by run order by run`.execute(trx);
  return rows;
}

/** Runs of one level that are merged together. */
const fanOut = 8;
/** Most samples that are merged at once: what has grown beyond stays as it is. */
const maxMergedSamples = 50_000_000;

/**
 * Which runs of a day to merge now: the newest of one level, when there are enough of them, so that a sample is merged a few times only;
 * all, when the day is `closed` and nothing more is expected. Always runs next to each other: of equal times the newest stands.
 */
export function runsToMerge(runs: readonly DayRun[], closed: boolean): readonly DayRun[] {
  const total = (list: readonly DayRun[]) => list.reduce((sum, { samples }) => sum + samples, 0);
  if (closed && runs.length > 1 && total(runs) <= maxMergedSamples) return runs;
  for (let end = runs.length; end > 0; ) {
    const { level } = runs[end - 1] as DayRun;
    let start = end;
    while (start > 0 && (runs[start - 1] as DayRun).level <= level) start--;
    const group = runs.slice(start, end);
    if (group.length >= fanOut && total(group) <= maxMergedSamples) return group;
    end = start;
  }
  return [];
}
