import { type Kysely, sql } from "kysely";
import type { Database } from "../db/schema.ts";
import { withWorker } from "../db/tenant.ts";

/** Deliveries of one tenant that one transaction deletes. */
const gulp = 1_000;

/** Deletes deliveries that ended before a time. Returns how many; there may be more when it is not 0. */
export function sweepDeliveries(db: Kysely<Database>, before: Date): Promise<number> {
  return withWorker(db, async (worker) => {
    // Ids begin with the time they were made at, so what is old lies together.
    const newest = `${before
      .getTime()
      .toString(16)
      .padStart(12, "0")
      .replace(/(.{8})/, "$1-")}-0000-0000-000000000000`;
    const { numAffectedRows = 0n } = await sql`
      with recursive owners as (
        (select tenant_id from deliveries order by tenant_id limit 1)
        union all
        select next.tenant_id from owners o cross join lateral (
          select tenant_id from deliveries where tenant_id > o.tenant_id order by tenant_id limit 1
        ) next
      )
      delete from deliveries d using owners o cross join lateral (
        select id from deliveries
        where tenant_id = o.tenant_id and id < ${newest}::uuid and finished_at < ${before}
        order by id limit ${gulp}
      ) old
      where d.tenant_id = o.tenant_id and d.id = old.id`.execute(worker);
    return Number(numAffectedRows);
  });
}
