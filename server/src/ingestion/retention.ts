/** What grows old: events by dropping partitions, rollups, the log of batches, names that nothing refers to any more. */
import { randomUUID } from "node:crypto";
import { type Kysely, sql } from "kysely";
import type { IngestionConfig } from "../config/ingestion.ts";
import type { Database } from "../db/schema.ts";
import { type TenantTransaction, withPlatform, withTenant, withWorker } from "../db/tenant.ts";
import { takeLease } from "../jobs/lease.ts";
import { startLoop } from "../jobs/loop.ts";
import type { StartWorker } from "../jobs/workers.ts";
import { lockRollups, saveState } from "./rollups/state.ts";

const sweepMs = 3_600_000;
const leaseMs = 600_000;
const dayMs = 86_400_000;
/** Rows that one statement deletes. */
const chunkRows = 5_000;

export const startEventRetention: StartWorker = ({ db, config, logger }) => {
  const holder = randomUUID();
  const loop = startLoop({
    name: "event retention",
    idleMs: sweepMs,
    logger,
    async step() {
      if (await takeLease(db, "event-retention", holder, leaseMs))
        await sweepEvents(db, config.ingestion, Date.now());
      return "idle";
    },
  });
  return { close: () => loop.close() };
};

/** Deletes what is older than it may be. May run in several processes, and break off anywhere. */
export async function sweepEvents(
  db: Kysely<Database>,
  times: IngestionConfig,
  nowMs: number,
): Promise<void> {
  const tenants = await withPlatform(db, (trx) => trx.selectFrom("tenants").select("id").execute());
  if (times.eventRetentionDays > 0) {
    const until = new Date(Math.floor(nowMs / dayMs - times.eventRetentionDays) * dayMs);
    await dropEvents(db, until, tenants);
  }
  for (const { id } of tenants) {
    await trimBatches(db, id, new Date(nowMs - times.watchCursorMs));
    if (times.rollupRetentionDays > 0) {
      await dropRollups(db, id, new Date(nowMs - times.rollupRetentionDays * dayMs));
    }
  }
}

/** Drops the partitions of days before `until`, unless events in them are still to be processed. */
async function dropEvents(
  db: Kysely<Database>,
  until: Date,
  tenants: readonly { readonly id: string }[],
): Promise<void> {
  const { rows } = await withWorker(db, (trx) =>
    sql<{ tenant_id: string }>`
      select tenant_id from event_batches
      where processed_at is null and first_id < uuidv7_at(${until}) limit 1`.execute(trx),
  );
  if (rows.length > 0) return;
  for (const { id } of tenants) {
    // Noted before: from here on nobody recounts a minute of that time, of which events may be missing.
    await withTenant(db, id, async (trx) => {
      await lockRollups(trx, id);
      await sql`
        update event_rollup_state set dropped_until = greatest(dropped_until, ${until}) where tenant_id = ${id}`.execute(
        trx,
      );
    });
  }
  await sql`select drop_event_partitions(${until.toISOString().slice(0, 10)}::date)`.execute(db);
  await withWorker(db, (trx) =>
    sql`delete from event_dead_letters where event_row < uuidv7_at(${until})`.execute(trx),
  );
}

/** Trims the log of batches, and says so, so that a cursor from before is refused. */
async function trimBatches(db: Kysely<Database>, tenantId: string, until: Date): Promise<void> {
  await inChunks(db, tenantId, async (trx) => {
    const { rows } = await sql<{ trimmed: string | null; count: number }>`
      with old as (
        delete from event_batches where (tenant_id, xid, first_id) in (
          select tenant_id, xid, first_id from event_batches
          where tenant_id = ${tenantId} and created_at < ${until} and processed_at < ${until} limit ${chunkRows}
        ) returning xid
      )
      select max(xid)::text as trimmed, count(*)::int as count from old`.execute(trx);
    const [row] = rows;
    if (row?.trimmed) {
      await sql`
        update event_rollup_state set trimmed_xid = greatest(trimmed_xid, ${row.trimmed}::xid8)
        where tenant_id = ${tenantId}`.execute(trx);
    }
    return row?.count ?? 0;
  });
}

async function dropRollups(db: Kysely<Database>, tenantId: string, until: Date): Promise<void> {
  await inChunks(db, tenantId, async (trx) => {
    const { numAffectedRows } = await sql`
      delete from event_rollups where (tenant_id, level, bucket) in (
        select tenant_id, level, bucket from event_rollups
        where tenant_id = ${tenantId} and level = any('{0,1,2,3,4}'::smallint[]) and bucket < ${until} limit ${chunkRows}
      )`.execute(trx);
    return Number(numAffectedRows ?? 0n);
  });
  await inChunks(db, tenantId, async (trx) => {
    const state = await lockRollups(trx, tenantId);
    const { numAffectedRows = 0n } = await sql`
      delete from event_names where (tenant_id, kind, number) in (
        select tenant_id, kind, number from event_names
        where tenant_id = ${tenantId} and seen < (${until}::timestamptz - interval '2 days')::date limit ${chunkRows}
      )`.execute(trx);
    if (numAffectedRows > 0n) {
      state.namesEpoch++;
      await saveState(trx, tenantId, state);
    }
    return Number(numAffectedRows);
  });
}

async function inChunks(
  db: Kysely<Database>,
  tenantId: string,
  chunk: (trx: TenantTransaction) => Promise<number>,
): Promise<void> {
  while ((await withTenant(db, tenantId, chunk)) >= chunkRows);
}
