import { type Kysely, sql } from "kysely";
import type { Database } from "../db/schema.ts";
import { takeLease } from "../jobs/lease.ts";
import { startLoop } from "../jobs/loop.ts";
import type { StartWorker } from "../jobs/workers.ts";

const dayMs = 86_400_000;
const sweepMs = 6 * 3_600_000;
const leaseName = "event keys";
/** A holder that died is replaced after this time. */
const leaseMs = 5 * 60_000;
/** Pages of 8 KiB that one statement looks through. */
const pagesAtOnce = 8_000n;

/** Partitions whose keys bear no time of their own, or one that is out of reach. */
const undatedParts = ["event_keys_hashed", "event_keys_default"] as const;

/**
 * Forgets the ids of events after the time for which they are recognised, which is never less than the 32 days that the
 * contract promises. One process of the installation does it.
 */
export const startForgettingKeys: StartWorker = ({ db, config, logger }) => {
  const holder = crypto.randomUUID();
  return startLoop({
    name: leaseName,
    async step(signal) {
      const before = new Date(Date.now() - config.ingestion.dedupeDays * dayMs);
      await forgetKeys(db, before, async () => {
        return !signal.aborted && (await takeLease(db, leaseName, holder, leaseMs)) !== undefined;
      });
      return "idle";
    },
    idleMs: sweepMs,
    logger,
  });
};

/** Forgets the ids of events that were received before a time, piece by piece, as long as `mayGoOn`. */
export async function forgetKeys(
  db: Kysely<Database>,
  before: Date,
  mayGoOn: () => Promise<boolean> = async () => true,
): Promise<void> {
  if (!(await mayGoOn())) return;
  await sql`select drop_event_keys(${before})`.execute(db);
  for (const part of undatedParts) {
    for (let page: bigint | null = 0n; page !== null && (await mayGoOn()); ) {
      const { rows }: { rows: { next: bigint | null }[] } = await sql<{ next: bigint | null }>`
        select sweep_event_keys(${part}, ${before}, ${page}, ${pagesAtOnce}) as next`.execute(db);
      page = rows[0]?.next ?? null;
    }
  }
}
