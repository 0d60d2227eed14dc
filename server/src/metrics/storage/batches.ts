import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { encodeBatch } from "./batch.ts";
import { rangeOf, type SampleColumns } from "./columns.ts";

/** Keeps the samples of a flush, one at least. Of equal series and times the last stands, here and against what was there. */
export async function insertBatch(
  trx: TenantTransaction,
  tenantId: string,
  parts: readonly SampleColumns[],
): Promise<void> {
  const ranges = parts.map(({ times }) => rangeOf(times));
  const minMs = Math.min(...ranges.map((range) => range.minMs));
  const maxMs = Math.max(...ranges.map((range) => range.maxMs));
  const samples = parts.reduce((sum, { times }) => sum + times.length, 0);
  await sql`/* kept as insert_sample_batch */
    insert into sample_batches (tenant_id, min_ms, max_ms, samples, data)
    values (${tenantId}, ${minMs}, ${maxMs}, ${samples}, ${encodeBatch(parts)})`.execute(trx);
}
