import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";

/** How ingestion of one tenant goes, from the batches. */
export async function readIngestStats(trx: TenantTransaction, tenantId: string) {
  const { rows } = await sql<{
    now: Date;
    last_minute: number;
    accepted: bigint;
    coming: bigint;
    pending: bigint;
    lag_ms: number;
    dead: bigint;
  }>`
    with waiting as (
      select coalesce(sum(events), 0)::bigint as pending,
        coalesce(sum(events) filter (where event_ids is null), 0)::bigint as coming,
        coalesce(extract(epoch from clock_timestamp() - min(created_at)) * 1000, 0)::float8 as lag_ms
      from event_batches where tenant_id = ${tenantId} and processed_at is null
    )
    select now(), pending, coming, greatest(lag_ms, 0) as lag_ms,
      coalesce((select accepted from event_rollup_state where tenant_id = ${tenantId}), 0)::bigint as accepted,
      (select coalesce(sum(events), 0)::float8 from event_batches
        where tenant_id = ${tenantId} and event_ids is null and created_at > now() - interval '1 minute') as last_minute,
      (select count(*) from event_dead_letters where tenant_id = ${tenantId} and not queued) as dead
    from waiting`.execute(trx);
  const [row] = rows;
  if (!row) throw new Error("an aggregate without a row");
  return {
    ingestionRate: row.last_minute / 60,
    totalIngested: row.accepted + row.coming,
    timestamp: timestampFromDate(row.now),
    pending: row.pending,
    lag: durationFromMs(Math.round(row.lag_ms)),
    deadLetters: row.dead,
  };
}
