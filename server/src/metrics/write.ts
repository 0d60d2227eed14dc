import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { Config } from "../config.ts";
import { GroupCommit } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import { withTenant, withTenants } from "../db/tenant.ts";
import type { Activity } from "./activity.ts";
import type { SampleItem, SeriesKey } from "./samples.ts";
import { existingStores, insertSamples, insertSeries } from "./store.ts";
import { countUsage } from "./usage/count.ts";
import type { Usage } from "./usage/usage.ts";

/** Rows of one transaction: enough to share the commit, few enough to keep its callers waiting only shortly. */
const maxRowsPerFlush = 10_000;
/** One flush waits for the disk while the next is being written. */
const maxFlushes = 2;

/** What became of an item: whether it made its series. */
export interface SampleResult {
  readonly newSeries: boolean;
}

/** Commits samples; equal series and times count as written, the later value stands. */
export interface SampleWriter {
  /** Which of the items' stores are not in the tenant. Costs a query only for series that were not written before. */
  unknownStores(tenantId: string, items: readonly SampleItem[]): Promise<Set<string>>;
  /** One result for each item, after the commit. The stores must be known. Throws OVERLOADED and TENANT_LIMIT. */
  commit(tenantId: string, items: readonly SampleItem[]): Promise<SampleResult[]>;
}

export function createSampleWriter(
  db: Kysely<Database>,
  limits: Config["limits"],
  activity: Activity,
  usage: Usage,
): SampleWriter {
  // Tenant and id of series that are in the table.
  const known = new LRUCache<string, true>({ max: limits.seriesCacheSize });
  const cacheKey = (tenantId: string, series: SeriesKey) => tenantId + series.id;
  const unseen = (tenantId: string, items: readonly SampleItem[]) =>
    items.filter(({ series }) => !known.has(cacheKey(tenantId, series)));

  const commits = new GroupCommit<SampleItem, SampleResult>({
    weigh: ({ values }) => values.length,
    maxRowsPerFlush,
    maxFlushes,
    maxQueuedRows: limits.maxQueuedRows,
    async flush(submissions) {
      const byTenant = Map.groupBy(submissions, ({ tenantId }) => tenantId);
      await withTenants(db, async (enter) => {
        // Always the same order of tenants, so that two flushes never wait for each other crosswise.
        for (const tenantId of [...byTenant.keys()].sort()) {
          const trx = await enter(tenantId);
          const calls = byTenant.get(tenantId) ?? [];
          const items = calls.flatMap(({ rows }) => rows);
          const made = await insertSeries(trx, tenantId, unseen(tenantId, items));
          await insertSamples(trx, tenantId, items);
          await countUsage(trx, tenantId, { samples: samplesIn(items) });
          for (const call of calls)
            call.results = call.rows.map(({ series }) => ({ newSeries: made.delete(series.id) }));
        }
      });
      for (const { tenantId, rows } of submissions) {
        for (const { series, timestampsMs } of rows) {
          known.set(cacheKey(tenantId, series), true);
          usage.noteSeries(tenantId, series.storeId, series.id);
          activity.note(
            tenantId,
            series.storeId,
            timestampsMs.reduce((a, b) => Math.max(a, b)),
          );
        }
      }
    },
  });

  return {
    async unknownStores(tenantId, items) {
      const ids = new Set(unseen(tenantId, items).map(({ series }) => series.storeId));
      if (ids.size === 0) return ids;
      return ids.difference(await withTenant(db, tenantId, (trx) => existingStores(trx, tenantId, [...ids])));
    },
    commit: (tenantId, items) =>
      usage.spend(tenantId, "samples", samplesIn(items), () => commits.submit(tenantId, items)),
  };
}

function samplesIn(items: readonly SampleItem[]): number {
  return items.reduce((sum, { values }) => sum + values.length, 0);
}
