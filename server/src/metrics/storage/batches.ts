import { CompiledQuery } from "kysely";
import { uuidArray } from "../../db/binary-array.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { encodeBatch } from "./batch.ts";
import { rangeOf, type SampleColumns } from "./columns.ts";

/** Keeps the samples of a flush, one at least. Of equal series and times the last stands, here and against what was there. */
export async function insertBatch(
  trx: TenantTransaction,
  tenantId: string,
  parts: readonly SampleColumns[],
): Promise<void> {
  await trx.executeQuery(CompiledQuery.raw(insertText, valuesOf(tenantId, parts)));
}

/**
 * The statement that keeps the samples of a flush where all these stores are there, each named once. Else it fails with a NULL in
 * a column that takes none, so that nothing of its transaction is written.
 */
export function ownBatchStatement(
  tenantId: string,
  storeIds: readonly string[],
  parts: readonly SampleColumns[],
): CompiledQuery {
  const values = [...valuesOf(tenantId, parts), uuidArray(storeIds), storeIds.length];
  return CompiledQuery.raw(insertOwnText, values);
}

function valuesOf(tenantId: string, parts: readonly SampleColumns[]): unknown[] {
  const ranges = parts.map(({ times }) => rangeOf(times));
  const minMs = Math.min(...ranges.map((range) => range.minMs));
  const maxMs = Math.max(...ranges.map((range) => range.maxMs));
  const samples = parts.reduce((sum, { times }) => sum + times.length, 0);
  return [tenantId, minMs, maxMs, samples, encodeBatch(parts)];
}

const insertInto = "insert into sample_batches (tenant_id, min_ms, max_ms, samples, data)";

const insertText = `/* kept as insert_sample_batch */
  ${insertInto} values ($1::uuid, $2, $3, $4, $5)`;

const insertOwnText = `/* kept as insert_own_sample_batch */
  ${insertInto} values ($1::uuid, $2, $3,
    case when (select count(*) from stores where tenant_id = $1::uuid and id = any($6::uuid[])) = $7 then $4::integer end, $5)`;
