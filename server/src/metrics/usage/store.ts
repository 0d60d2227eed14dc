import { sql } from "kysely";
import type { TenantTransaction, WorkerTransaction } from "../../db/tenant.ts";
import { type UsageName, usageNames } from "./count.ts";
import type { Prices } from "./prices.ts";

/** What a tenant used on one day. */
export type UsageDay = Readonly<Record<UsageName, bigint>> & {
  /** `YYYY-MM-DD`, UTC. */
  readonly day: string;
  readonly cost_micros: number;
};

const columns = sql.join(usageNames.map((name) => sql.ref(name)));
const sums = sql.join(usageNames.map((name) => sql`sum(${sql.ref(name)})::bigint as ${sql.ref(name)}`));

/** The cost of a row of counts. */
const costOf = (prices: Prices) =>
  sql.join(
    usageNames.map((name) => sql`${sql.ref(name)} * ${prices[name]}::double precision`),
    sql` + `,
  );

/** The days from `sinceDay` on that anything was used, newest first: what is folded and what is not yet. */
export async function readUsage(
  trx: TenantTransaction,
  tenantId: string,
  sinceDay: string,
  prices: Prices,
): Promise<UsageDay[]> {
  const { rows } = await sql<UsageDay>`
    select to_char(day, 'YYYY-MM-DD') as day, ${sums}, sum(cost_micros) as cost_micros
    from (
      select day, ${columns}, cost_micros from usage_days
      where tenant_id = ${tenantId}::uuid and day >= ${sinceDay}::date
      union all
      select day, ${columns}, ${costOf(prices)} from usage_increments
      where tenant_id = ${tenantId}::uuid and day >= ${sinceDay}::date
    ) as used
    group by used.day order by used.day desc`.execute(trx);
  return rows;
}

/** Puts what was counted since the last time into the days. */
export async function foldUsage(trx: TenantTransaction, tenantId: string, prices: Prices): Promise<void> {
  const added = sql.join(
    usageNames.map((name) => sql`${sql.ref(name)} = folded.${sql.ref(name)} + excluded.${sql.ref(name)}`),
  );
  await sql`
    with counted as (delete from usage_increments where tenant_id = ${tenantId}::uuid returning *),
    by_day as (select day, ${sums} from counted group by day)
    insert into usage_days as folded (tenant_id, day, ${columns}, cost_micros)
    select ${tenantId}::uuid, day, ${columns}, ${costOf(prices)} from by_day order by day
    on conflict (tenant_id, day) do update set
      ${added}, cost_micros = folded.cost_micros + excluded.cost_micros`.execute(trx);
}

/** Tenants that used something that is not folded, at most `limit`. */
export async function tenantsToFold(trx: WorkerTransaction, limit: number): Promise<string[]> {
  const { rows } = await sql<{ tenant_id: string }>`
    select distinct tenant_id from usage_increments order by tenant_id limit ${limit}`.execute(trx);
  return rows.map(({ tenant_id }) => tenant_id);
}

/** Forgets which stores and series were active before yesterday. */
export async function forgetActive(trx: WorkerTransaction): Promise<void> {
  await sql`delete from usage_active where day < (now() at time zone 'utc')::date - 1`.execute(trx);
}

/** Notes stores or series as active today; how many of them were not yet. */
export async function insertActive(
  trx: TenantTransaction,
  tenantId: string,
  ids: readonly string[],
): Promise<number> {
  const { numAffectedRows = 0n } = await sql`
    insert into usage_active (tenant_id, day, id)
    select ${tenantId}::uuid, (now() at time zone 'utc')::date, id from unnest(${ids.toSorted()}::uuid[]) as t (id)
    on conflict do nothing`.execute(trx);
  return Number(numAffectedRows);
}
