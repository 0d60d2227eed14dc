/**
 * Whether stores are heard from, in one statement for all: from when each was heard from last, how often that is expected, and its
 * alerts that fired and are not resolved. A sample whose time lies in the future counts from its receipt.
 */
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { StoreState } from "../../gen/pulsewire/metrics/v1/store_pb.js";
import { defaultExpectedIntervalMs } from "../messages.ts";

export type StoreStateWord = "online" | "degraded" | "offline";

/** The states of the contract. */
export const stateOfWord: Readonly<Record<StoreStateWord, StoreState>> = {
  online: StoreState.ONLINE,
  degraded: StoreState.DEGRADED,
  offline: StoreState.OFFLINE,
};

/** The word for a state of the contract; undefined for UNSPECIFIED. */
export const wordOfState = (state: StoreState): StoreStateWord | undefined =>
  (["online", "degraded", "offline"] as const).find((word) => stateOfWord[word] === state);

/** How many expected intervals may pass until a store is offline. */
const offlineAfter = sql.lit(3);

export interface StoreStatus {
  readonly id: string;
  readonly state: StoreStateWord;
  readonly since: Date;
  readonly last_sample_at: Date | null;
  readonly interval_ms: number;
  readonly age_ms: number | null;
  readonly open_alerts: number;
}

/** A query of the statuses of all stores of a tenant, to be selected from. */
export const storeStatuses = (tenantId: string) => sql<StoreStatus>`(
  select id, last_sample_at, interval_ms, age_ms, open_alerts,
    case when age_ms is null or age_ms > ${offlineAfter} * interval_ms then 'offline'
      when age_ms > interval_ms or open_alerts > 0 then 'degraded' else 'online' end as state,
    case when age_ms is null then created_at
      when age_ms > ${offlineAfter} * interval_ms then heard_at + ${offlineAfter} * span
      when age_ms > interval_ms or open_alerts > 0 then greatest(
        heard_since, least(case when age_ms > interval_ms then heard_at + span end, first_fired_at))
      else greatest(heard_since, last_resolved_at) end as since
  from (
    select s.id, s.created_at, a.last_sample_at, a.heard_since, heard_at, first_fired_at, last_resolved_at,
      coalesce(s.expected_interval_ms, ${defaultExpectedIntervalMs}::bigint)::float8 as interval_ms,
      coalesce(s.expected_interval_ms, ${defaultExpectedIntervalMs}::bigint) * interval '1 millisecond' as span,
      case when heard_at is not null
        then greatest(0, extract(epoch from clock_timestamp() - heard_at) * 1000)::float8 end as age_ms,
      coalesce(open_alerts, 0) as open_alerts
    from stores s
    left join store_activity a on a.tenant_id = ${tenantId}::uuid and a.store_id = s.id
    cross join lateral (select least(a.last_sample_at, a.last_received_at) as heard_at) as heard
    left join (
      select store_id, count(*)::int as open_alerts, min(fired_at) as first_fired_at
      from alerts
      where tenant_id = ${tenantId}::uuid and state in ('firing', 'acknowledged', 'recovering') and fired_at is not null
      group by store_id
    ) as open on open.store_id = s.id
    left join lateral (
      select max(resolved_at) as last_resolved_at from alerts
      where tenant_id = ${tenantId}::uuid and store_id = s.id and state = 'resolved' and fired_at is not null
        and resolved_at > a.heard_since
    ) as resolved on true
    where s.tenant_id = ${tenantId}::uuid
  ) as heard_from
)`;

export async function getStatus(
  trx: TenantTransaction,
  tenantId: string,
  storeId: string,
): Promise<StoreStatus | undefined> {
  const { rows } = await sql<StoreStatus>`
    select * from ${storeStatuses(tenantId)} as status where id = ${storeId}::uuid`.execute(trx);
  return rows[0];
}

/** Why a store is in its state, for a person. */
export function reasonOf({ state, interval_ms, age_ms, open_alerts }: StoreStatus): string {
  const expected = `one is expected every ${span(interval_ms)}`;
  if (age_ms === null) return "it has never sent a sample";
  const alerts = open_alerts === 1 ? "1 alert is open" : `${open_alerts} alerts are open`;
  const isLate = age_ms > interval_ms;
  const heard = isLate
    ? `no sample for ${span(age_ms)}; ${expected}`
    : `its last sample is ${span(age_ms)} old; ${expected}`;
  if (state === "degraded" && !isLate) return alerts;
  return open_alerts > 0 ? `${heard}; ${alerts}` : heard;
}

function span(ms: number): string {
  const units = [
    ["day", 86_400_000],
    ["hour", 3_600_000],
    ["minute", 60_000],
    ["second", 1_000],
  ] as const;
  const [name, size] = units.find(([, size]) => ms >= 2 * size) ?? units[3];
  const count = Math.round(ms / size);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}
