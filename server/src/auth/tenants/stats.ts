import { sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { Config } from "../../config/config.ts";
import type { Context } from "../../context.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { storeStatuses } from "../../metrics/status/states.ts";
import { daysBefore, isoDay, monthStartMs } from "../../metrics/usage/days.ts";
import { readUsage } from "../../metrics/usage/store.ts";

/** What a tenant has and uses. */
export interface TenantCounts {
  readonly countedAt: Date;
  readonly stores: bigint;
  readonly storesOnline: bigint;
  readonly storesDegraded: bigint;
  readonly storesOffline: bigint;
  readonly series: bigint;
  readonly users: bigint;
  readonly functions: bigint;
  readonly apiKeys: bigint;
  readonly webhooks: bigint;
  readonly openAlerts: bigint;
  readonly eventsTotal: bigint;
  readonly eventsToday: bigint;
  readonly samplesToday: bigint;
  readonly costMonthMicros: bigint;
  readonly storedBytes: bigint;
  readonly lastReceivedAt: Date | undefined;
}

/** For how long a count is given again (the contract: at most a minute old), and of how many tenants. */
const countMaxAgeMs = 60_000;
const maxTenants = 1_000;
/** What a row of many samples takes beside them, and how many of the latest events stand for the size of all. */
const sampleRowBytes = 150;
const eventsMeasured = 1_000;

/** Counts what tenants have, each at most once a minute. */
export function createTenantCounter({
  db,
  config,
}: Pick<Context, "db" | "config">): (tenantId: string) => Promise<TenantCounts> {
  const counted = new LRUCache<string, Promise<TenantCounts>>({ max: maxTenants, ttl: countMaxAgeMs });
  return (tenantId) => {
    const known = counted.get(tenantId);
    if (known) return known;
    const counting = withTenant(db, tenantId, (trx) => count(trx, tenantId, config));
    counted.set(tenantId, counting);
    counting.catch(() => {
      if (counted.peek(tenantId) === counting) counted.delete(tenantId);
    });
    return counting;
  };
}

async function count(trx: TenantTransaction, tenantId: string, config: Config): Promise<TenantCounts> {
  const now = new Date();
  const nowMs = now.getTime();
  const kept = config.ingestion.eventRetentionDays;
  const month = isoDay(monthStartMs(nowMs));
  // Events in retention are those that were accepted since: what was deleted of them is not taken off.
  const days = await readUsage(
    trx,
    tenantId,
    daysBefore(nowMs, kept > 0 ? Math.max(kept, 31) : 36_500),
    config.metrics.usage.prices,
  );
  const today = days.find(({ day }) => day === isoDay(nowMs));
  const oldest = kept > 0 ? daysBefore(nowMs, kept) : "";
  const { rows } = await sql<{
    stores: bigint;
    series: bigint;
    users: bigint;
    api_keys: bigint;
    functions: bigint;
    webhooks: bigint;
    open_alerts: bigint;
    online: bigint;
    degraded: bigint;
    offline: bigint;
    event_bytes: number;
    latest_event: string | null;
    sample_bytes: bigint;
    latest_sample: Date | null;
  }>`
    select
      (select count(*) from stores where tenant_id = ${tenantId}) as stores,
      (select count(*) from series where tenant_id = ${tenantId}) as series,
      (select count(*) from users where tenant_id = ${tenantId}) as users,
      (select count(*) from api_keys where tenant_id = ${tenantId} and revoked_at is null
        and (expires_at is null or expires_at > now())) as api_keys,
      (select count(*) from functions where tenant_id = ${tenantId} and deleted_at is null) as functions,
      (select count(*) from webhooks where tenant_id = ${tenantId}) as webhooks,
      (select count(*) from alerts where tenant_id = ${tenantId} and state in ('firing', 'acknowledged')) as open_alerts,
      (select coalesce(avg(pg_column_size(e)), 0)::float8 from
        (select e from events e where tenant_id = ${tenantId} order by id desc limit ${eventsMeasured}) t (e)
      ) as event_bytes,
      (select id from events where tenant_id = ${tenantId} order by id desc limit 1) as latest_event,
      (select max(last_received_at) from store_activity where tenant_id = ${tenantId}) as latest_sample,
      (select coalesce(sum(pg_column_size(data) + ${sampleRowBytes}), 0)::bigint from (
        select data from sample_blocks where tenant_id = ${tenantId}
        union all
        select data from sample_batches where tenant_id = ${tenantId}
      ) as stored) as sample_bytes,
      states.*
    from (
      select count(*) filter (where state = 'online') as online,
        count(*) filter (where state = 'degraded') as degraded,
        count(*) filter (where state = 'offline') as offline
      from ${storeStatuses(tenantId)} as status
    ) as states`.execute(trx);
  const [row] = rows;
  if (!row) throw new Error("a count without a row");
  const eventsTotal = days.filter(({ day }) => day >= oldest).reduce((sum, { events }) => sum + events, 0n);
  const latest = [row.latest_event && timeOf(row.latest_event), row.latest_sample].filter(
    (at) => at instanceof Date,
  );
  return {
    countedAt: now,
    stores: row.stores,
    storesOnline: row.online,
    storesDegraded: row.degraded,
    storesOffline: row.offline,
    series: row.series,
    users: row.users,
    functions: row.functions,
    apiKeys: row.api_keys,
    webhooks: row.webhooks,
    openAlerts: row.open_alerts,
    eventsTotal,
    eventsToday: today?.events ?? 0n,
    samplesToday: today?.samples ?? 0n,
    costMonthMicros: BigInt(
      Math.floor(
        days.filter(({ day }) => day >= month).reduce((sum, { cost_micros }) => sum + cost_micros, 0),
      ),
    ),
    storedBytes: BigInt(Math.round(Number(eventsTotal) * row.event_bytes)) + row.sample_bytes,
    lastReceivedAt: latest.sort((a, b) => b.getTime() - a.getTime())[0],
  };
}

function timeOf(uuidv7: string): Date {
  return new Date(Number.parseInt(uuidv7.replace("-", "").slice(0, 12), 16));
}
