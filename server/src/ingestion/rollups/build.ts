/** Makes longer periods of shorter ones when they are over, so that reads of long ranges touch few rows. */
import { type Kysely, sql } from "kysely";
import { int2Array, timestampArray } from "../../db/binary-array.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant, withWorker } from "../../db/tenant.ts";
import { coverOf } from "./cover.ts";
import { decodeEntries } from "./entries.ts";
import { levelMs } from "./levels.ts";
import { lockRollups } from "./state.ts";
import { emptyRollup, readEntries, writeRows } from "./store.ts";
import { addSummary } from "./summary.ts";

/** Periods of one transaction. */
const buildsPerStep = 50;

/**
 * Builds periods that are due, of one tenant, the shorter ones first; returns how many. Those of two workers wait for each
 * other at the tenant's lock, and the second finds nothing left to do.
 */
export async function buildDue(db: Kysely<Database>): Promise<number> {
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
      const rollup = emptyRollup();
      const range = [bucketMs, bucketMs + (levelMs[level] as number)] as const;
      const cover = await coverOf(trx, tenantId, [range], level - 1);
      const entries = await readEntries(trx, tenantId, cover);
      for (const [index, row] of cover.entries()) {
        rollup.entries.addAll(decodeEntries(entries[index] as Buffer), row.bucketMs - bucketMs);
        addSummary(rollup.summary, row.summary);
      }
      if (rollup.entries.size > 0) await writeRows(trx, tenantId, [{ level, bucketMs, rollup }]);
    }
  });
  return rows.length;
}
