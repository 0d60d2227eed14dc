import { sql } from "kysely";
import { type TenantTransaction, withPlatform, withTenant } from "../db/tenant.ts";
import { takeLease } from "../jobs/lease.ts";
import { startLoop } from "../jobs/loop.ts";
import type { StartWorker } from "../jobs/workers.ts";

const sweepMs = 30_000;
/** Rows that one transaction deletes. */
const rowsAtOnce = 5_000;
const filesAtOnce = 20;
const leaseName = "progress sweep";
const setAsideRetention = "30 days";

/**
 * Deletes what is past its time: changes that nobody resumes from, update ids of files that have long been completed, messages
 * that were put aside. One process of the installation does it.
 */
export const startProgressSweep: StartWorker = (context) => {
  const { db, logger, config } = context;
  const holder = crypto.randomUUID();
  const { deltaRetentionMs, updateIdRetentionMs } = config.progress;
  return startLoop({
    name: leaseName,
    async step(signal) {
      if (!(await takeLease(db, leaseName, holder, 2 * sweepMs))) return "idle";
      const tenants = await withPlatform(db, (trx) => trx.selectFrom("tenants").select("id").execute());
      for (const { id } of tenants) {
        await untilDone(signal, () =>
          withTenant(db, id, (trx) => pruneDeltas(trx, id, ago(deltaRetentionMs))),
        );
        await untilDone(signal, () =>
          withTenant(db, id, (trx) => forgetUpdates(trx, id, ago(updateIdRetentionMs))),
        );
      }
      await sql`delete from progress_set_aside where set_aside_at < now() - ${setAsideRetention}::interval`.execute(
        db,
      );
      return "idle";
    },
    idleMs: sweepMs,
    logger,
  });
};

const ago = (ms: number) => new Date(Date.now() - ms);

async function untilDone(signal: AbortSignal, piece: () => Promise<boolean>): Promise<void> {
  for (let more = true; more && !signal.aborted; ) more = await piece();
}

/** Deletes the oldest changes, and says in the feed up to where. True: there may be more. */
export async function pruneDeltas(trx: TenantTransaction, tenantId: string, before: Date): Promise<boolean> {
  const { rows } = await sql<{ last: bigint | null; count: number }>`
    with gone as (
      delete from progress_deltas where tenant_id = ${tenantId} and sequence in (
        select sequence from (
          select sequence, updated_at from progress_deltas where tenant_id = ${tenantId}
          order by sequence limit ${rowsAtOnce}
        ) as oldest where updated_at < ${before}
      ) returning sequence
    ) select max(sequence) as last, count(*)::int as count from gone`.execute(trx);
  const { last = null, count = 0 } = rows[0] ?? {};
  if (last === null) return false;
  await trx.updateTable("progress_feeds").set({ pruned: last }).where("tenant_id", "=", tenantId).execute();
  return count === rowsAtOnce;
}

/** Deletes the update ids of files that were completed long ago. True: there may be more. */
export async function forgetUpdates(
  trx: TenantTransaction,
  tenantId: string,
  completedBefore: Date,
): Promise<boolean> {
  const files = await trx
    .selectFrom("progress_files")
    .select("id")
    .where("tenant_id", "=", tenantId)
    .where(sql<boolean>`has_update_ids`)
    .where("completed_at", "<", completedBefore)
    .limit(filesAtOnce)
    .execute();
  for (const { id } of files) {
    const { rows } = await sql<{ count: number }>`
      with gone as (
        delete from progress_updates where tenant_id = ${tenantId} and file_id = ${id} and key in (
          select key from progress_updates where tenant_id = ${tenantId} and file_id = ${id} limit ${rowsAtOnce}
        ) returning 1
      ) select count(*)::int as count from gone`.execute(trx);
    if (rows[0]?.count === rowsAtOnce) return true;
    await trx
      .updateTable("progress_files")
      .set({ has_update_ids: false })
      .where("tenant_id", "=", tenantId)
      .where("id", "=", id)
      .execute();
  }
  return files.length === filesAtOnce;
}
