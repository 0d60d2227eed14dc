import { type Insertable, type Selectable, sql } from "kysely";
import type { DeliveriesTable, DeliveryChannel, StoredDeliveryStatus } from "../db/schema/webhooks.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { deliveryTargets, receiverOf, type Targets } from "./receiver.ts";

export type DeliveryRow = Selectable<DeliveriesTable>;
export type NewDelivery = Insertable<DeliveriesTable>;

/** Rows of one insert: PostgreSQL takes 65,535 parameters. */
const rowsAtOnce = 1_000;

export async function insertDeliveries(
  trx: TenantTransaction,
  deliveries: readonly NewDelivery[],
): Promise<void> {
  for (let from = 0; from < deliveries.length; from += rowsAtOnce) {
    await trx
      .insertInto("deliveries")
      .values(deliveries.slice(from, from + rowsAtOnce))
      .execute();
  }
}

export async function insertDelivery(trx: TenantTransaction, delivery: NewDelivery): Promise<DeliveryRow> {
  return await trx.insertInto("deliveries").values(delivery).returningAll().executeTakeFirstOrThrow();
}

export function getDelivery(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<DeliveryRow | undefined> {
  return trx
    .selectFrom("deliveries")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

/** Which deliveries; what is undefined or empty does not narrow. */
export interface DeliveryQuery {
  /** The webhook. */
  readonly receiver: string;
  readonly statuses: readonly StoredDeliveryStatus[];
  readonly eventType: string;
  readonly channel: DeliveryChannel | undefined;
  readonly subjectId: string;
  readonly alertRuleId: string;
  readonly createdFrom: Date | undefined;
  readonly createdUntil: Date | undefined;
}

/** A page of deliveries, newest first, beyond the id `after`; without payload and with the last attempt only. */
export function listDeliveries(
  trx: TenantTransaction,
  tenantId: string,
  query: DeliveryQuery,
  limit: number,
  after: string | undefined,
): Promise<DeliveryRow[]> {
  let select = trx
    .selectFrom("deliveries")
    .selectAll()
    .select([
      sql<DeliveryRow["payload"]>`'{}'::json`.as("payload"),
      sql<
        DeliveryRow["attempts"]
      >`case when attempt_count = 0 then '[]' else jsonb_build_array(attempts -> -1) end`.as("attempts"),
    ])
    .where("tenant_id", "=", tenantId)
    .orderBy("id", "desc")
    .limit(limit);
  if (query.receiver) select = select.where("receiver", "=", query.receiver);
  if (query.statuses.length > 0) select = select.where("status", "in", query.statuses);
  if (query.eventType) select = select.where("event_type", "=", query.eventType);
  if (query.channel) select = select.where("channel", "=", query.channel);
  if (query.subjectId) select = select.where(sql<boolean>`${query.subjectId} = any(subject_ids)`);
  if (query.alertRuleId)
    select = select.where(sql<boolean>`${query.alertRuleId}::uuid = any(alert_rule_ids)`);
  if (query.createdFrom) select = select.where("created_at", ">=", query.createdFrom);
  if (query.createdUntil) select = select.where("created_at", "<", query.createdUntil);
  if (after !== undefined) select = select.where("id", "<", after);
  return select.execute();
}

/** Ends what waits for a receiver. One that is being tried right now still counts as delivered if it succeeds. */
export async function discardWaiting(
  trx: TenantTransaction,
  tenantId: string,
  receiver: string,
  now: Date,
): Promise<bigint> {
  const { numUpdatedRows } = await trx
    .updateTable("deliveries")
    .set({ status: "DISCARDED", due_at: null, finished_at: now })
    .where("tenant_id", "=", tenantId)
    .where("receiver", "=", receiver)
    .where("due_at", "is not", null)
    .executeTakeFirst();
  return numUpdatedRows;
}

/** Ends what waits for targets that have left an alert rule, unless it tells of another rule too. */
export async function discardForRule(
  trx: TenantTransaction,
  tenantId: string,
  alertRuleId: string,
  { before, after }: { readonly before: Targets; readonly after: Targets },
  now: Date,
): Promise<void> {
  const kept = new Set(deliveryTargets(after).map(receiverOf));
  const left = deliveryTargets(before)
    .map(receiverOf)
    .filter((receiver) => !kept.has(receiver));
  if (left.length === 0) return;
  await trx
    .updateTable("deliveries")
    .set({ status: "DISCARDED", due_at: null, finished_at: now })
    .where("tenant_id", "=", tenantId)
    .where("receiver", "in", left)
    .where("due_at", "is not", null)
    .where(sql<boolean>`alert_rule_ids = array[${alertRuleId}::uuid]`)
    .execute();
}

/** Sends what waits for a webhook to another address. */
export async function redirectWaiting(
  trx: TenantTransaction,
  tenantId: string,
  webhookId: string,
  url: string,
): Promise<void> {
  await trx
    .updateTable("deliveries")
    .set({ destination: url })
    .where("tenant_id", "=", tenantId)
    .where("receiver", "=", webhookId)
    .where("due_at", "is not", null)
    .execute();
}
