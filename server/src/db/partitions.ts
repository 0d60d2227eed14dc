import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** How far the partitions of each table reach around today, in days. Beyond, rows go to a default partition. */
export const partitionReach = {
  events: { behind: 1, ahead: 7 },
  /** Ids that senders make bear their clocks; those of a longer time ago are kept in the default partition. */
  event_keys: { behind: 7, ahead: 14 },
} as const;

const dayMs = 86_400_000;

/**
 * Makes the missing partitions around `now` and returns how many. Safe to run in several processes at once; to be run
 * at the start and at least daily. Rows that the default partition had to take meanwhile move to where they belong.
 */
export async function ensurePartitions(db: Kysely<Database>, now: Date): Promise<number> {
  let made = 0;
  for (const [table, { behind, ahead }] of Object.entries(partitionReach)) {
    const [from, to] = [-behind, ahead].map((days) =>
      new Date(now.getTime() + days * dayMs).toISOString().slice(0, 10),
    );
    const { rows } = await sql<{ made: number }>`
      select ensure_partitions(${table}, ${from}::date, ${to}::date) as made`.execute(db);
    made += rows[0]?.made ?? 0;
  }
  return made;
}
