/** Makes longer periods of shorter ones when they are over, so that reads of long ranges touch few rows. */
import { type Kysely, sql } from "kysely";
import { int2Array, timestampArray } from "../../db/binary-array.ts";
import type { Database } from "../../db/schema.ts";
import { type TenantTransaction, withTenant, withWorker } from "../../db/tenant.ts";
import { coverOf } from "./cover.ts";
import { decodeEntries, TooManyEntries } from "./entries.ts";
import { levelMs } from "./levels.ts";
import { lockRollups } from "./state.ts";
import { emptyRollup, type Rollup, readEntries, writeRows } from "./store.ts";
import { addSummary } from "./summary.ts";

/** Periods of one transaction. */
const buildsPerStep = 50;

/**
 * Builds periods that are due, of one tenant, the shorter ones first; returns how many. Those of two workers wait for each
 * other at the tenant's lock, and the second finds nothing left to do. A period with more than `maxEntries`, by default what a
 * row can hold, is left out: reads of it take the shorter ones.
 */
export async function buildDue(db: Kysely<Database>, maxEntries?: number): Promise<number> {
  const { rows } = await withWorker(db, (trx) =>
    sql<{ tenant_id: string; level: number; bucket: Date }>`
      select tenant_id, level, bucket from event_rollup_builds
      where due_at <= now() and tenant_id = (
        select tenant_id from event_rollup_builds where due_at <= now() limit 1)
      order by level, bucket limit ${buildsPerStep}`.execute(trx),
  );
  const [first] = rows;
  if (!first) return 0;
  const tenantId = first.tenant_id;
  await withTenant(db, tenantId, async (trx) => {
    await lockRollups(trx, tenantId);
    const levels = int2Array(rows.map(({ level }) => level));
    const buckets = timestampArray(rows.map(({ bucket }) => bucket));
    // Under the lock: what a fold has asked for since then is not done yet.
    const due = await sql<{ level: number; bucket: Date }>`
      delete from event_rollup_builds b using unnest(${levels}::smallint[], ${buckets}::timestamptz[]) as t (level, bucket)
      where b.tenant_id = ${tenantId} and b.level = t.level and b.bucket = t.bucket and b.due_at <= now()
      returning b.level, b.bucket`.execute(trx);
    for (const { level, bucket } of due.rows.toSorted((a, b) => a.level - b.level)) {
      const bucketMs = bucket.getTime();
      const rollup = await addUp(trx, tenantId, level, bucketMs, maxEntries);
      if (rollup && rollup.entries.size > 0) await writeRows(trx, tenantId, [{ level, bucketMs, rollup }]);
    }
  });
  return rows.length;
}

/** A period, of shorter ones; undefined where it has too many entries. */
async function addUp(
  trx: TenantTransaction,
  tenantId: string,
  level: number,
  bucketMs: number,
  maxEntries: number | undefined,
): Promise<Rollup | undefined> {
  const rollup = emptyRollup(maxEntries);
  const cover = await coverOf(trx, tenantId, [[bucketMs, bucketMs + (levelMs[level] as number)]], level - 1);
  const entries = await readEntries(trx, tenantId, cover);
  try {
    for (const [index, row] of cover.entries()) {
      rollup.entries.addAll(decodeEntries(entries[index] as Buffer), row.bucketMs - bucketMs);
      addSummary(rollup.summary, row.summary);
    }
  } catch (error) {
    if (error instanceof TooManyEntries) return undefined;
    throw error;
  }
  return rollup;
}
