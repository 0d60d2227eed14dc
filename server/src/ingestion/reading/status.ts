import { sql } from "kysely";
import { uuidArray } from "../../db/binary-array.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { ProcessingStatus } from "../../gen/pulsewire/ingestion/v1/event_pb.js";

/**
 * How far the processing of events has come, in their order: told by their batches and the dead letters, for the rows of
 * events are never changed.
 */
export async function statusesOf(
  trx: TenantTransaction,
  tenantId: string,
  events: readonly { readonly id: string; readonly batch: string }[],
): Promise<ProcessingStatus[]> {
  if (events.length === 0) return [];
  const ids = uuidArray(events.map(({ id }) => id));
  // What a replay has queued again is in the dead letters, too, until it is processed.
  const { rows } = await sql<{ id: string; claimed: boolean; dead: boolean }>`
    select e.id, coalesce(b.claimed_until > now(), false) as claimed, d.id is not null and not d.queued as dead
    from unnest(${ids}::uuid[], ${events.map(({ batch }) => batch)}::xid8[]) as e (id, batch)
    left join event_batches b on b.tenant_id = ${tenantId} and b.processed_at is null and b.xid = e.batch
      and e.id between b.first_id and b.last_id and b.event_ids is null
    left join event_dead_letters d on d.tenant_id = ${tenantId} and d.event_row = e.id
    where b.xid is not null or d.id is not null`.execute(trx);
  const found = new Map(rows.map((row) => [row.id, row]));
  return events.map(({ id }) => {
    const row = found.get(id);
    if (!row) return ProcessingStatus.PROCESSED;
    if (row.dead) return ProcessingStatus.DEAD;
    return row.claimed ? ProcessingStatus.PROCESSING : ProcessingStatus.QUEUED;
  });
}
