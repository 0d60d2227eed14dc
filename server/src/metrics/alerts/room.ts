import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";

const counted = {
  alert_rules: sql`alert_rules where true`,
  silences: sql`silences where ends_at > now()`,
} as const;

/** Makes sure that there is room for one more. Call it under `lockEvaluation`. Throws TENANT_LIMIT. */
export async function requireRoomFor(
  trx: TenantTransaction,
  tenantId: string,
  what: keyof typeof counted,
  most: number,
): Promise<void> {
  const { rows } = await sql<{ n: bigint }>`
    select count(*) as n from ${counted[what]} and tenant_id = ${tenantId}::uuid`.execute(trx);
  if ((rows[0]?.n ?? 0n) < BigInt(most)) return;
  const name = what.replace("_", " ");
  throw failure(
    ErrorReason.TENANT_LIMIT,
    `a tenant may have ${most} ${name} on this server, and has them; delete some first`,
    { metadata: { limit: what } },
  );
}
