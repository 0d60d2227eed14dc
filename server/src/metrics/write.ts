import type { Kysely } from "kysely";
import type { Pool } from "pg";
import type { TenantSettingsCache } from "../auth/tenants/settings.ts";
import type { MetricsConfig } from "../config/metrics.ts";
import { GroupCommit, type Submission } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import type { Activity } from "./activity.ts";
import { createSampleFlush } from "./flush.ts";
import { isWritten, type PendingCall, type SampleCall, type SampleResult } from "./sample-batch.ts";
import { createSeriesCache, type SeriesCache } from "./series-cache.ts";
import { dayMs } from "./storage/blocks.ts";
import type { Usage } from "./usage/usage.ts";

/** Samples of one transaction: enough to share the commit, few enough to keep its callers waiting only shortly. */
const maxSamplesPerFlush = 50_000;
/** One flush waits for the disk while the next is being written. */
const maxFlushes = 2;

/** Commits samples; of equal series and times the one written later stands. */
export interface SampleWriter {
  readonly series: SeriesCache;
  /** Resolves after the commit. Throws OVERLOADED, and TENANT_LIMIT where the day's samples or the budget are used up. */
  commit(tenantId: string, call: SampleCall): Promise<SampleResult>;
}

export function createSampleWriter(
  db: Kysely<Database>,
  pool: Pool,
  limits: MetricsConfig,
  activity: Activity,
  usage: Usage,
  tenants: TenantSettingsCache,
): SampleWriter {
  const series = createSeriesCache(limits.seriesCacheSize);
  const seriesLimit = async (tenantId: string) =>
    (tenants.peek(tenantId) ?? (await tenants.load(tenantId)))?.limits.series ?? 0n;
  const flush = createSampleFlush(db, pool, seriesLimit);
  const commits = new GroupCommit<SampleCall, SampleResult>({
    weigh: ({ batch }) => batch.size,
    maxRowsPerFlush: maxSamplesPerFlush,
    maxFlushes,
    maxQueuedRows: limits.maxQueuedRows,
    async flush(submissions) {
      await flush(submissions);
      for (const submission of submissions) remember(submission, series, activity, usage);
    },
  });
  return {
    series,
    commit: (tenantId, call) =>
      usage.spend(
        tenantId,
        "samples",
        call.batch.size,
        async () => {
          const [result] = await commits.submit(tenantId, [call]);
          return result as SampleResult;
        },
        (result) => writtenIn({ ...call, result }),
      ),
  };
}

/** How many samples of a call are written. */
function writtenIn(call: PendingCall): number {
  if (!isWritten(call)) return 0;
  const { batch, result } = call;
  return [...result.refused.keys()].reduce((size, run) => size - (batch.counts[run] as number), batch.size);
}

/** After the commit: series that are known now, and stores that were heard from. */
function remember(
  { tenantId, rows, results }: Submission<SampleCall, SampleResult>,
  cache: SeriesCache,
  activity: Activity,
  usage: Usage,
): void {
  const today = Math.floor(Date.now() / dayMs);
  rows.forEach(({ batch, allowPartial }, index) => {
    const { refused } = results[index] as SampleResult;
    if (refused.size > 0 && !allowPartial) return;
    const lastMs = new Map<string, number>();
    let at = 0;
    batch.series.forEach((series, run) => {
      const end = at + (batch.counts[run] as number);
      let last = Number.NEGATIVE_INFINITY;
      for (; at < end; at++) last = Math.max(last, batch.times[at] as number);
      if (refused.has(run)) return;
      lastMs.set(series.storeId, Math.max(lastMs.get(series.storeId) ?? last, last));
      if (series.definition) {
        series.definition = undefined;
        cache.add(series);
      }
      if (series.notedDay !== today) {
        series.notedDay = today;
        usage.noteSeries(tenantId, series.storeId, series.id);
      }
    });
    for (const [storeId, ms] of lastMs) activity.note(tenantId, storeId, ms);
  });
}
