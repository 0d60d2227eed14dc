/** Claims batches for a worker: many at once, each for a while, so that others take over what a dead worker held. */
import { type Kysely, sql } from "kysely";
import type { Database } from "../../db/schema.ts";
import { withWorker } from "../../db/tenant.ts";

/** A batch that a worker may process. */
export interface ClaimedBatch {
  readonly xid: string;
  readonly firstId: string;
  readonly lastId: string;
  readonly events: number;
  /** Of a replay: these events only. */
  readonly eventIds: readonly string[] | null;
  /** This one included. */
  readonly attempts: number;
}

/** Batches of one tenant. */
export interface Claim {
  readonly tenantId: string;
  readonly batches: readonly ClaimedBatch[];
}

/** What one gulp takes at most. */
export const gulp = { batches: 400, events: 40_000 };

/**
 * How long a claim lasts. It need not be renewed: who processes holds the rows locked, and claimers pass locked rows over,
 * so the time only counts between the claim and the lock, and after a crash.
 */
export const claimMs = 4_000;

/**
 * Claims the oldest batches of the first tenant after `afterTenant` that has any that are due; of the first tenant of all
 * where there is none. Undefined: nothing is due.
 */
export async function claimBatches(
  db: Kysely<Database>,
  worker: string,
  afterTenant: string,
): Promise<Claim | undefined> {
  return (
    (await claimOfNextTenant(db, worker, afterTenant)) ??
    (afterTenant === noTenant ? undefined : await claimOfNextTenant(db, worker, noTenant))
  );
}

/** Before all tenants. */
export const noTenant = "00000000-0000-0000-0000-000000000000";

const due = sql`processed_at is null and next_attempt_at <= now() and (claimed_until is null or claimed_until < now())`;

async function claimOfNextTenant(
  db: Kysely<Database>,
  worker: string,
  afterTenant: string,
): Promise<Claim | undefined> {
  const { rows } = await withWorker(db, (trx) =>
    sql<{
      tenant_id: string;
      xid: string;
      first_id: string;
      last_id: string;
      events: number;
      event_ids: string[] | null;
      attempts: number;
    }>`
    update event_batches b
    set claimed_by = ${worker}, claimed_until = now() + ${claimMs} * interval '1 millisecond', attempts = attempts + 1
    from (
      select tenant_id, xid, first_id, sum(events) over (order by xid, first_id) - events as before
      from (
        select tenant_id, xid, first_id, events from event_batches
        where ${due} and tenant_id = (
          select tenant_id from event_batches
          where ${due} and tenant_id > ${afterTenant}
          order by tenant_id limit 1
        )
        order by xid, first_id limit ${gulp.batches}
        for update skip locked
      ) as oldest
    ) as taken
    where before < ${gulp.events}
      and b.tenant_id = taken.tenant_id and b.xid = taken.xid and b.first_id = taken.first_id
    returning b.tenant_id, b.xid::text, b.first_id, b.last_id, b.events, b.event_ids, b.attempts`.execute(
      trx,
    ),
  );
  const [first] = rows;
  return (
    first && {
      tenantId: first.tenant_id,
      batches: rows.map(({ xid, first_id, last_id, events, event_ids, attempts }) => ({
        xid,
        firstId: first_id,
        lastId: last_id,
        events,
        eventIds: event_ids,
        attempts,
      })),
    }
  );
}
