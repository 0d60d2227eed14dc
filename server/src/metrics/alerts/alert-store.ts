import { type Selectable, sql } from "kysely";
import type { AlertChangesTable } from "../../db/schema/alerts.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { AlertRow } from "./alert-row.ts";

/** Which alerts. Empty values do not narrow. */
export interface AlertQuery {
  /** Empty: all that are not resolved. */
  readonly states: readonly AlertRow["state"][];
  readonly storeIds: readonly string[];
  readonly ruleId: string;
  readonly minSeverity: number;
}

/** A page of alerts, newest first, after the alert `after`. */
export function listAlerts(
  trx: TenantTransaction,
  tenantId: string,
  query: AlertQuery,
  limit: number,
  after: string | undefined,
): Promise<AlertRow[]> {
  let select = trx
    .selectFrom("alerts")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("id", "desc")
    .limit(limit);
  select =
    query.states.length > 0
      ? select.where("state", "in", query.states)
      : select.where("state", "<>", "resolved");
  if (query.storeIds.length > 0) select = select.where("store_id", "in", query.storeIds);
  if (query.ruleId) select = select.where("rule_id", "=", query.ruleId);
  if (query.minSeverity > 0) select = select.where("severity", ">=", query.minSeverity);
  if (after) select = select.where("id", "<", after);
  return select.execute();
}

export function getAlert(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<AlertRow | undefined> {
  return trx
    .selectFrom("alerts")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

export type AlertChangeRow = Selectable<AlertChangesTable>;

/** The changes of state of an alert, oldest first: not those by which only an acknowledgement was changed. */
export function transitionsOf(
  trx: TenantTransaction,
  tenantId: string,
  alertId: string,
): Promise<AlertChangeRow[]> {
  return trx
    .selectFrom("alert_changes")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("alert_id", "=", alertId)
    .whereRef("from_state", "<>", "to_state")
    .orderBy("sequence")
    .execute();
}

/** Changes after a number, in their order. */
export function changesAfter(
  trx: TenantTransaction,
  tenantId: string,
  storeIds: readonly string[],
  after: bigint,
  limit: number,
): Promise<AlertChangeRow[]> {
  let select = trx
    .selectFrom("alert_changes")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("sequence", ">", after)
    .orderBy("sequence")
    .limit(limit);
  if (storeIds.length > 0) select = select.where("store_id", "in", storeIds);
  return select.execute();
}

/** The alerts that were open right after a change, as they were then, by id after the alert `after`. */
export async function openAt(
  trx: TenantTransaction,
  tenantId: string,
  storeIds: readonly string[],
  sequence: bigint,
  after: string | undefined,
  limit: number,
): Promise<AlertChangeRow[]> {
  const stores = storeIds.length > 0 ? sql`and a.store_id = any(${[...storeIds]}::uuid[])` : sql``;
  const later = after ? sql`and a.id > ${after}::uuid` : sql``;
  const { rows } = await sql<AlertChangeRow>`
    select c.* from alerts a
    cross join lateral (
      select * from alert_changes c
      where c.tenant_id = ${tenantId}::uuid and c.alert_id = a.id and c.sequence <= ${sequence}
      order by c.sequence desc limit 1
    ) c
    where a.tenant_id = ${tenantId}::uuid and a.opened_sequence <= ${sequence}
      and (a.closed_sequence is null or a.closed_sequence > ${sequence}) ${stores} ${later}
    order by a.id limit ${limit}`.execute(trx);
  return rows;
}

/** The number of the latest change. */
export async function latestSequence(trx: TenantTransaction, tenantId: string): Promise<bigint> {
  const row = await trx
    .selectFrom("alert_evaluations")
    .select("sequence")
    .where("tenant_id", "=", tenantId)
    .executeTakeFirst();
  return row?.sequence ?? 0n;
}
