import { sql } from "kysely";
import { snakeCase, type TenantLimitDefaults } from "../../config/tenants.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure, notFound } from "../../rpc/errors.ts";
import { limitsInForce } from "./limits-in-force.ts";
import { lockTenant, type TenantRow } from "./store.ts";

/** What is counted where it is made. */
type Counted = "users" | "apiKeys" | "stores" | "functions";

const counts = {
  users: (tenantId: string) =>
    sql<{ n: bigint }>`select count(*) as n from users where tenant_id = ${tenantId}`,
  apiKeys: (tenantId: string) => sql<{ n: bigint }>`select count(*) as n from api_keys
    where tenant_id = ${tenantId} and revoked_at is null and (expires_at is null or expires_at > now())`,
  stores: (tenantId: string) =>
    sql<{ n: bigint }>`select count(*) as n from stores where tenant_id = ${tenantId}`,
  functions: (tenantId: string) =>
    sql<{
      n: bigint;
    }>`select count(*) as n from functions where tenant_id = ${tenantId} and deleted_at is null`,
};

/**
 * Locks the tenant until the transaction ends, so that what is counted stays true, and makes sure that there is room
 * for one more. To be called first in the transaction that makes it. Throws NOT_FOUND and TENANT_LIMIT.
 */
export async function requireRoom(
  trx: TenantTransaction,
  tenantId: string,
  what: Counted,
  defaults: TenantLimitDefaults,
): Promise<TenantRow> {
  const tenant = await lockTenant(trx, tenantId);
  if (!tenant) throw notFound("tenant", tenantId);
  const limit = limitsInForce(tenant, defaults)[what];
  if (limit === 0n) return tenant;
  const { rows } = await counts[what](tenantId).execute(trx);
  if ((rows[0]?.n ?? 0n) < limit) return tenant;
  const name = snakeCase(what);
  throw failure(
    ErrorReason.TENANT_LIMIT,
    `the tenant may have ${limit} ${name.replace("_", " ")}, and has them; remove some or ask the operator for more`,
    { metadata: { limit: name } },
  );
}
