/** Counts what a tenant uses, in the transaction that uses it: what is committed is counted once, and nothing else is. */
import { CompiledQuery } from "kysely";
import { newResourceId } from "../../auth/ids.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

/** What is counted by the day, by the columns of `usage_days`. */
export const usageNames = [
  "events",
  "samples",
  "active_stores",
  "active_series",
  "invocations",
  "calls",
] as const;
export type UsageName = (typeof usageNames)[number];
export type UsageCounts = Readonly<Partial<Record<UsageName, number>>>;

/** Adds to what the tenant used today, UTC. Waits for no other transaction. */
export async function countUsage(
  trx: TenantTransaction,
  tenantId: string,
  counts: UsageCounts,
): Promise<void> {
  if (Object.values(counts).every((count) => count === 0)) return;
  await trx.executeQuery(usageStatement(tenantId, counts));
}

/** The statement of `countUsage`, for whoever sends several at once; not for nothing. */
export function usageStatement(tenantId: string, counts: UsageCounts): CompiledQuery {
  const values = usageNames.map((name) => counts[name] ?? 0);
  return CompiledQuery.raw(insertIncrements, [tenantId, newResourceId(), ...values]);
}

const insertIncrements = `/* kept as count_usage */
  insert into usage_increments (tenant_id, id, ${usageNames.join(", ")})
  values ($1::uuid, $2::uuid, ${usageNames.map((_, index) => `$${index + 3}::bigint`).join(", ")})`;
