import { sql } from "kysely";
import type { TenantLimitName } from "../../config/tenants.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

/** What a tenant has of that whose number is limited. */
export type LimitedCounts = Readonly<Partial<Record<TenantLimitName, bigint>>>;

export async function countLimited(trx: TenantTransaction, tenantId: string): Promise<LimitedCounts> {
  const { rows } = await sql<Record<TenantLimitName, bigint>>`
    select
      (select count(*) from stores where tenant_id = ${tenantId}::uuid) as stores,
      (select count(*) from series where tenant_id = ${tenantId}::uuid) as series,
      (select count(*) from users where tenant_id = ${tenantId}::uuid) as users,
      (select count(*) from api_keys where tenant_id = ${tenantId}::uuid and revoked_at is null
        and (expires_at is null or expires_at > now())) as "apiKeys"`.execute(trx);
  return rows[0] ?? {};
}
