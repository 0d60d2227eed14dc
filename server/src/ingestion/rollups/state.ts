import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";

/**
 * How long the rollups of a tenant may be kept locked without a word. Who dies lets go at once; this is for a process that stands
 * still, or whose machine is gone. Between two statements a gulp is added up, which takes a fraction of it.
 */
const maxSilenceMs = 10_000;

/** The state of a tenant's rollups, under lock. */
export interface RollupState {
  accepted: bigint;
  readonly lastNumbers: number[];
  namesEpoch: number;
  readonly droppedUntilMs: number;
}

/**
 * Locks the tenant's rollups until the end of the transaction: nobody else folds, deletes or builds. What is read after
 * this sees everything that earlier holders have committed.
 */
export async function lockRollups(trx: TenantTransaction, tenantId: string): Promise<RollupState> {
  const lock = () =>
    sql<{ accepted: bigint; last_numbers: number[]; names_epoch: number; dropped: number }>`
      select accepted, last_numbers, names_epoch, extract(epoch from dropped_until)::float8 * 1000 as dropped,
        set_config('idle_in_transaction_session_timeout', ${String(maxSilenceMs)}, true)
      from event_rollup_state where tenant_id = ${tenantId} for update`.execute(trx);
  let [row] = (await lock()).rows;
  if (!row) {
    await sql`insert into event_rollup_state (tenant_id) values (${tenantId}) on conflict do nothing`.execute(
      trx,
    );
    [row] = (await lock()).rows;
  }
  if (!row) throw new Error("the state of rollups cannot be locked");
  return {
    accepted: row.accepted,
    lastNumbers: row.last_numbers,
    namesEpoch: row.names_epoch,
    droppedUntilMs: row.dropped,
  };
}

/** Writes what has changed under the lock. */
export async function saveState(
  trx: TenantTransaction,
  tenantId: string,
  { accepted, lastNumbers, namesEpoch }: RollupState,
): Promise<void> {
  await trx
    .updateTable("event_rollup_state")
    .set({ accepted, last_numbers: lastNumbers, names_epoch: namesEpoch })
    .where("tenant_id", "=", tenantId)
    .execute();
}
