import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { decodeBlock } from "./block.ts";
import { BlockWriter, existingRefs, takeStorage } from "./blocks.ts";

/** Removes the samples of deleted series from the tenant's blocks. False where another process has the storage. */
export async function purgeDeleted(trx: TenantTransaction, tenantId: string): Promise<boolean> {
  if (!(await takeStorage(trx, tenantId))) return false;
  const { rows: deleted } = await sql<{ ref: bigint }>`
    select ref from deleted_series where tenant_id = ${tenantId}`.execute(trx);
  const { rows: blocks } = await sql<{ day: string; run: bigint; first_ref: bigint; min_ms: bigint }>`
    select day::text, run, first_ref, min_ms from sample_blocks as block
    where tenant_id = ${tenantId} and exists (
      select from deleted_series as deleted
      where deleted.tenant_id = ${tenantId} and ref between block.first_ref and block.last_ref)`.execute(trx);
  for (const { day, run, first_ref, min_ms } of blocks) {
    const { rows } = await sql<{ data: Buffer; level: number }>`
      delete from sample_blocks
      where tenant_id = ${tenantId} and day = ${day} and run = ${run} and first_ref = ${first_ref} and min_ms = ${min_ms}
      returning data, level`.execute(trx);
    const [block] = rows;
    if (!block) continue;
    const runs = await decodeBlock(block.data);
    const existing = await existingRefs(
      trx,
      tenantId,
      runs.map(({ ref }) => ref),
    );
    const writer = new BlockWriter(trx, { tenantId, day, run, level: block.level });
    for (const series of runs) if (existing.has(series.ref)) await writer.add(series);
    await writer.finish();
  }
  await sql`delete from deleted_series
    where tenant_id = ${tenantId} and ref = any(${deleted.map(({ ref }) => ref)}::bigint[])`.execute(trx);
  return true;
}
