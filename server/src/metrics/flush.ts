/** Writes the samples of many calls in one transaction and tells what became of each. */
import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import { DatabaseError, type Pool } from "pg";
import type { Submission } from "../db/group-commit.ts";
import { pipelineForTenants } from "../db/pipeline.ts";
import type { Database } from "../db/schema.ts";
import { type TenantTransaction, withTenants } from "../db/tenant.ts";
import { resolveSeries, type SeriesLimit } from "./resolve-series.ts";
import { isWritten, type PendingCall, type SampleCall, type SampleResult } from "./sample-batch.ts";
import { insertBatch, ownBatchStatement } from "./storage/batches.ts";
import type { SampleColumns } from "./storage/columns.ts";
import { existingStores } from "./store.ts";
import { countUsage, usageStatement } from "./usage/count.ts";

type Submitted = Submission<SampleCall, SampleResult>;
type ByTenant = ReadonlyMap<string, readonly Submitted[]>;

/** Fills in the results of the submissions. */
export type FlushSamples = (submissions: readonly Submitted[]) => Promise<void>;

/** How long a tenant that has written to a store that is gone is expected to go on so. */
const doubtMs = 2_000;
const maxDoubts = 10_000;

/**
 * Most samples are of series that are known. Where all of a flush are, it is written in one round trip, on the condition that
 * their stores are still there; else with care.
 */
export function createSampleFlush(db: Kysely<Database>, pool: Pool, seriesLimit: SeriesLimit): FlushSamples {
  const doubts = new LRUCache<string, true>({ max: maxDoubts, ttl: doubtMs });
  return async (submissions) => {
    const grouped = Map.groupBy(submissions, ({ tenantId }) => tenantId);
    // Always the same order of tenants, so that two flushes never wait for each other crosswise.
    const byTenant = new Map([...grouped.keys()].sort().map((id) => [id, grouped.get(id) ?? []]));
    const hopeful = submissions.every(({ tenantId, rows }) => !doubts.has(tenantId) && areKnown(rows));
    if (hopeful && (await writeKnown(pool, byTenant))) return;
    await withTenants(db, async (enter) => {
      for (const [tenantId, own] of byTenant) {
        await writeWithCare(await enter(tenantId), tenantId, own, seriesLimit);
      }
    });
    for (const { tenantId, results } of submissions) {
      if (results.some(({ refused }) => [...refused.values()].includes("NOT_FOUND"))) {
        doubts.set(tenantId, true);
      }
    }
  };
}

const areKnown = (calls: readonly SampleCall[]) =>
  calls.every(({ batch }) => batch.series.every(({ definition }) => definition === undefined));

/** False: a store is gone, and nothing is written. */
async function writeKnown(pool: Pool, byTenant: ByTenant): Promise<boolean> {
  const statements = new Map(
    [...byTenant].map(([tenantId, submissions]) => {
      const calls = begin(submissions);
      const storeIds = new Set(calls.flatMap(({ batch }) => [...batch.storeIds()]));
      const parts = calls.flatMap(columnsOf);
      const own = [
        ownBatchStatement(tenantId, [...storeIds], parts),
        usageStatement(tenantId, { samples: countOf(parts) }),
      ];
      return [tenantId, own];
    }),
  );
  try {
    await pipelineForTenants(pool, statements);
    return true;
  } catch (error) {
    if (error instanceof DatabaseError && error.code === notNullViolation) return false;
    throw error;
  }
}

/** What `ownBatchStatement` fails with. */
const notNullViolation = "23502";

async function writeWithCare(
  trx: TenantTransaction,
  tenantId: string,
  submissions: readonly Submitted[],
  seriesLimit: SeriesLimit,
): Promise<void> {
  const calls = begin(submissions);
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
  await countUsage(trx, tenantId, { samples: countOf(parts) });
}

/** The calls of submissions, with results that the flush fills in. */
function begin(submissions: readonly Submitted[]): PendingCall[] {
  return submissions.flatMap((submission) => {
    submission.results = submission.rows.map(() => ({ newSeries: 0, refused: new Map() }));
    return submission.rows.map((call, index) => ({
      ...call,
      result: submission.results[index] as SampleResult,
    }));
  });
}

const countOf = (parts: readonly SampleColumns[]) => parts.reduce((sum, { times }) => sum + times.length, 0);

/** The samples of a call, without the runs that were refused; nothing where nothing is left. */
function columnsOf({ batch, result }: PendingCall): SampleColumns[] {
  const { series, counts, times, values, size } =
    result.refused.size > 0 ? batch.without(result.refused) : batch;
  if (size === 0) return [];
  const refs = series.map(({ ref }) => ref);
  return [{ refs, counts, times: times.subarray(0, size), values: values.subarray(0, size) }];
}
