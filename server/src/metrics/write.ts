import type { Kysely } from "kysely";
import type { TenantSettingsCache } from "../auth/tenants/settings.ts";
import type { Config } from "../config.ts";
import { GroupCommit, type Submission } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import { type TenantTransaction, withTenants } from "../db/tenant.ts";
import type { Activity } from "./activity.ts";
import { resolveSeries, type SeriesLimit } from "./resolve-series.ts";
import { isWritten, type PendingCall, type SampleCall, type SampleResult } from "./sample-batch.ts";
import { createSeriesCache, type SeriesCache } from "./series-cache.ts";
import { insertBatch } from "./storage/batches.ts";
import { dayMs } from "./storage/blocks.ts";
import type { SampleColumns } from "./storage/columns.ts";
import { existingStores } from "./store.ts";
import { countUsage } from "./usage/count.ts";
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
  limits: Config["limits"],
  activity: Activity,
  usage: Usage,
  tenants: TenantSettingsCache,
): SampleWriter {
  const series = createSeriesCache(limits.seriesCacheSize);
  const seriesLimit = async (tenantId: string) =>
    (tenants.peek(tenantId) ?? (await tenants.load(tenantId)))?.limits.series ?? 0n;
  const commits = new GroupCommit<SampleCall, SampleResult>({
    weigh: ({ batch }) => batch.size,
    maxRowsPerFlush: maxSamplesPerFlush,
    maxFlushes,
    maxQueuedRows: limits.maxQueuedRows,
    async flush(submissions) {
      const byTenant = Map.groupBy(submissions, ({ tenantId }) => tenantId);
      await withTenants(db, async (enter) => {
        // Always the same order of tenants, so that two flushes never wait for each other crosswise.
        for (const tenantId of [...byTenant.keys()].sort()) {
          const calls = byTenant.get(tenantId) ?? [];
          await flushTenant(await enter(tenantId), tenantId, calls, seriesLimit);
        }
      });
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

type Submitted = Submission<SampleCall, SampleResult>;

async function flushTenant(
  trx: TenantTransaction,
  tenantId: string,
  submissions: readonly Submitted[],
  seriesLimit: SeriesLimit,
): Promise<void> {
  const calls = submissions.flatMap((submission) => {
    submission.results = submission.rows.map(() => ({ newSeries: 0, refused: new Map() }));
    return submission.rows.map((call, index) => ({
      ...call,
      result: submission.results[index] as SampleResult,
    }));
  });
  const storeIds = new Set(calls.flatMap(({ batch }) => [...batch.storeIds()]));
  const stores = await existingStores(trx, tenantId, [...storeIds]);
  if (stores.size < storeIds.size) {
    for (const { batch, result } of calls) {
      batch.series.forEach(({ storeId }, run) => {
        if (!stores.has(storeId)) result.refused.set(run, "NOT_FOUND");
      });
    }
  }
  await resolveSeries(trx, tenantId, calls, seriesLimit);
  const parts = calls.filter(isWritten).flatMap(columnsOf);
  if (parts.length === 0) return;
  await insertBatch(trx, tenantId, parts);
  const samples = parts.reduce((sum, { times }) => sum + times.length, 0);
  await countUsage(trx, tenantId, { samples });
}

/** How many samples of a call are written. */
function writtenIn(call: PendingCall): number {
  if (!isWritten(call)) return 0;
  const { batch, result } = call;
  return [...result.refused.keys()].reduce((size, run) => size - (batch.counts[run] as number), batch.size);
}

/** The samples of a call, without the runs that were refused; nothing where nothing is left. */
function columnsOf({ batch, result }: PendingCall): SampleColumns[] {
  const { series, counts, times, values, size } =
    result.refused.size > 0 ? batch.without(result.refused) : batch;
  if (size === 0) return [];
  const refs = series.map(({ ref }) => ref);
  return [{ refs, counts, times: times.subarray(0, size), values: values.subarray(0, size) }];
}

/** After the commit: series that are known now, and stores that were heard from. */
function remember(
  { tenantId, rows, results }: Submitted,
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
