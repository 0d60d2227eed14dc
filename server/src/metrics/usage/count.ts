/** Counts what a tenant uses, in the transaction that uses it: what is committed is counted once, and nothing else is. */
import { type RawBuilder, sql } from "kysely";
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
  if (Object.values(counts).some((count) => count !== 0)) await usageStatement(tenantId, counts).execute(trx);
}

/** The statement of `countUsage`, for whoever sends several at once; not for nothing. */
export function usageStatement(tenantId: string, counts: UsageCounts): RawBuilder<unknown> {
  const [events = 0, samples = 0, stores = 0, series = 0, invocations = 0, calls = 0] = usageNames.map(
    (name) => counts[name],
  );
  return sql`/* kept as count_usage */
    insert into usage_increments
      (tenant_id, id, events, samples, active_stores, active_series, invocations, calls)
    values (${tenantId}::uuid, ${newResourceId()}::uuid, ${events}::bigint, ${samples}::bigint, ${stores}::bigint,
      ${series}::bigint, ${invocations}::bigint, ${calls}::bigint)`;
}
