import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { encodeBatch } from "./batch.ts";
import { rangeOf, type SampleColumns } from "./columns.ts";

/** Keeps the samples of a flush. Of equal series and times the last stands, here and against what was there. */
export async function insertBatch(
  trx: TenantTransaction,
  tenantId: string,
  columns: SampleColumns,
): Promise<void> {
  const { minMs, maxMs } = rangeOf(columns.times);
  await sql`/* kept as insert_sample_batch */
    insert into sample_batches (tenant_id, min_ms, max_ms, samples, data)
    values (${tenantId}, ${minMs}, ${maxMs}, ${columns.times.length}, ${encodeBatch(columns)})`.execute(trx);
}
