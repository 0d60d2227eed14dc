/** The background work on stored samples: compaction, merging, removal of what is too old or whose store is gone. */
import { type Kysely, sql } from "kysely";
import type { Context } from "../../context.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant, withWorker } from "../../db/tenant.ts";
import { startLoop } from "../../jobs/loop.ts";
import type { Worker } from "../../jobs/workers.ts";
import { compactBatches } from "./compact.ts";
import { batchGraceMs } from "./feed.ts";
import { mergeDay } from "./merge.ts";
import { purgeDeleted } from "./purge.ts";

/** When the batches of a tenant are compacted: when there is enough for good blocks; else when some are old. */
const due = { samples: 200_000, batches: 256 };
/** Samples that one step compacts; bounds its memory. */
const maxSamplesPerStep = 1_000_000;
const idleMs = 1_000;
/** How often days that are over, retention and deleted series are looked for. */
const housekeepingMs = 60_000;
/** A day that is over is merged into one run when nothing was added for so long. */
const quietSeconds = 1_800;

export function startCompactor({ db, config, logger }: Context): Worker {
  let housekeptAtMs = 0;
  return startLoop({
    name: "sample compaction",
    idleMs,
    logger,
    async step() {
      if (Date.now() - housekeptAtMs > housekeepingMs) {
        housekeptAtMs = Date.now();
        await keepHouse(db, config.metrics.sampleRetentionDays);
      }
      return (await compactDue(db, config.metrics.sampleCompactionAgeMs)) ? "more" : "idle";
    },
  });
}

/** Compacts once for each tenant that is due. True where there may be more to do. */
async function compactDue(db: Kysely<Database>, ageMs: number): Promise<boolean> {
  const tenants = await withWorker(db, async (trx) => {
    const { rows } = await sql<{ id: string }>`
      select tenant_id as id from sample_batches
      where written_at < now() - ${batchGraceMs} * interval '1 millisecond' group by tenant_id
      having sum(samples) >= ${due.samples} or count(*) >= ${due.batches}
        or min(written_at) < now() - ${ageMs} * interval '1 millisecond'`.execute(trx);
    return rows;
  });
  let more = false;
  for (const { id } of tenants) {
    const compacted = await withTenant(db, id, (trx) =>
      compactBatches(trx, id, maxSamplesPerStep, batchGraceMs),
    );
    if (!compacted) continue;
    more ||= compacted.more;
    for (const day of compacted.days) await mergeUntilDone(db, id, day, false);
  }
  return more;
}

async function mergeUntilDone(
  db: Kysely<Database>,
  tenantId: string,
  day: string,
  closed: boolean,
): Promise<void> {
  while (await withTenant(db, tenantId, (trx) => mergeDay(trx, tenantId, day, closed))) {
    // The merged run may be one too many of the next level.
  }
}

/** Merges days that are over, and removes what is too old or deleted. Retention 0 keeps everything. */
export async function keepHouse(db: Kysely<Database>, retentionDays: number): Promise<void> {
  const { over, purge } = await withWorker(db, async (trx) => {
    if (retentionDays > 0) {
      await sql`delete from sample_blocks where day < (now() at time zone 'UTC')::date - ${retentionDays}::int`.execute(
        trx,
      );
    }
    const over = await sql<{ id: string; day: string }>`
      select tenant_id as id, day::text from sample_blocks
      where day < (now() at time zone 'UTC')::date
      group by tenant_id, day
      having count(distinct run) > 1 and max(written_at) < now() - ${quietSeconds} * interval '1 second'`.execute(
      trx,
    );
    const purge = await sql<{ id: string }>`select distinct tenant_id as id from deleted_series`.execute(trx);
    return { over: over.rows, purge: purge.rows };
  });
  for (const { id } of purge) await withTenant(db, id, (trx) => purgeDeleted(trx, id));
  for (const { id, day } of over) await withTenant(db, id, (trx) => mergeDay(trx, id, day, true));
}
