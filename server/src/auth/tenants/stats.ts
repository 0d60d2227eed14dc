import { sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { Context } from "../../context.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";

/** What a tenant has, as far as there are tables for it. */
export interface TenantCounts {
  readonly countedAt: Date;
  readonly stores: bigint;
  readonly series: bigint;
  readonly users: bigint;
  readonly apiKeys: bigint;
  readonly eventsTotal: bigint;
  readonly eventsToday: bigint;
  readonly samplesToday: bigint;
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
}: Pick<Context, "db">): (tenantId: string) => Promise<TenantCounts> {
  const counted = new LRUCache<string, Promise<TenantCounts>>({ max: maxTenants, ttl: countMaxAgeMs });
  return (tenantId) => {
    const known = counted.get(tenantId);
    if (known) return known;
    const counting = withTenant(db, tenantId, (trx) => count(trx, tenantId));
    counted.set(tenantId, counting);
    counting.catch(() => {
      if (counted.peek(tenantId) === counting) counted.delete(tenantId);
    });
    return counting;
  };
}

async function count(trx: TenantTransaction, tenantId: string): Promise<TenantCounts> {
  const now = new Date();
  const midnight = new Date(now).setUTCHours(0, 0, 0, 0);
  const { rows } = await sql<{
    stores: bigint;
    series: bigint;
    users: bigint;
    api_keys: bigint;
    events: bigint;
    events_today: bigint;
    event_bytes: number;
    latest_event: string | null;
    sample_bytes: bigint;
    samples_today: bigint;
    latest_sample: Date | null;
  }>`
    select
      (select count(*) from stores where tenant_id = ${tenantId}) as stores,
      (select count(*) from series where tenant_id = ${tenantId}) as series,
      (select count(*) from users where tenant_id = ${tenantId}) as users,
      (select count(*) from api_keys where tenant_id = ${tenantId} and revoked_at is null
        and (expires_at is null or expires_at > now())) as api_keys,
      (select count(*) from events where tenant_id = ${tenantId}) as events,
      (select count(*) from events where tenant_id = ${tenantId} and id >= ${firstIdOf(midnight)}) as events_today,
      (select coalesce(avg(pg_column_size(e)), 0)::float8 from
        (select e from events e where tenant_id = ${tenantId} order by id desc limit ${eventsMeasured}) t (e)
      ) as event_bytes,
      (select id from events where tenant_id = ${tenantId} order by id desc limit 1) as latest_event,
      (select max(last_received_at) from store_activity where tenant_id = ${tenantId}) as latest_sample,
      s.*
    from (
      select coalesce(sum(bytes + ${sampleRowBytes}), 0)::bigint as sample_bytes,
        coalesce(sum(samples) filter (where of_today), 0)::bigint as samples_today
      from (
        select samples, pg_column_size(data) as bytes, max_ms >= ${midnight} as of_today
        from sample_blocks where tenant_id = ${tenantId}
        union all
        select samples, pg_column_size(data), max_ms >= ${midnight} from sample_batches where tenant_id = ${tenantId}
      ) as stored
    ) s`.execute(trx);
  const [row] = rows;
  if (!row) throw new Error("a count without a row");
  const latest = [row.latest_event && timeOf(row.latest_event), row.latest_sample].filter(
    (at) => at instanceof Date,
  );
  return {
    countedAt: now,
    stores: row.stores,
    series: row.series,
    users: row.users,
    apiKeys: row.api_keys,
    eventsTotal: row.events,
    eventsToday: row.events_today,
    // By their own time, as they are stored: one that came twice may count twice until the compaction.
    samplesToday: row.samples_today,
    storedBytes: BigInt(Math.round(Number(row.events) * row.event_bytes)) + row.sample_bytes,
    lastReceivedAt: latest.sort((a, b) => b.getTime() - a.getTime())[0],
  };
}

/** The least UUIDv7 of a millisecond: ids of events are in the order of receipt. */
function firstIdOf(timeMs: number): string {
  const hex = timeMs.toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}

function timeOf(uuidv7: string): Date {
  return new Date(Number.parseInt(uuidv7.replace("-", "").slice(0, 12), 16));
}
