import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Selectable, sql } from "kysely";
import { etagOf } from "../../auth/ids.ts";
import { laterThan } from "../../auth/tenants/store.ts";
import type { AlertRulesTable } from "../../db/schema/alerts.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import {
  type AlertRule,
  AlertRuleSchema,
  type AlertRuleSpec,
  AlertRuleSpecSchema,
} from "../../gen/pulsewire/metrics/v1/alert_pb.js";

export type AlertRuleRow = Selectable<AlertRulesTable>;

/** What a rule says, from its row. */
export const specOf = ({ spec }: Pick<AlertRuleRow, "spec">): AlertRuleSpec =>
  fromJson(AlertRuleSpecSchema, spec, { ignoreUnknownFields: true });

export function ruleMessage(row: AlertRuleRow): AlertRule {
  return create(AlertRuleSchema, {
    id: row.id,
    spec: specOf(row),
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: etagOf(row.updated_at),
  });
}

function columnsOf(spec: AlertRuleSpec) {
  return {
    name: spec.name,
    store_id: spec.storeId ? spec.storeId.toLowerCase() : null,
    metric_name: spec.metricName,
    disabled: spec.disabled,
    spec: JSON.stringify(toJson(AlertRuleSpecSchema, spec) as JsonObject),
  };
}

/** Rejects with a unique violation when the name is taken. */
export function insertRule(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
  spec: AlertRuleSpec,
): Promise<AlertRuleRow> {
  return trx
    .insertInto("alert_rules")
    .values({ tenant_id: tenantId, id, ...columnsOf(spec) })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Rejects with a unique violation when the name is taken. */
export function updateRule(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
  spec: AlertRuleSpec,
): Promise<AlertRuleRow> {
  return trx
    .updateTable("alert_rules")
    .set({ ...columnsOf(spec), updated_at: laterThan(sql.ref("updated_at")) })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

export function getRule(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<AlertRuleRow | undefined> {
  return trx
    .selectFrom("alert_rules")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

/** Which of these rules there are. */
export async function existingRules(
  trx: TenantTransaction,
  tenantId: string,
  ids: readonly string[],
): Promise<Set<string>> {
  const rows = await trx
    .selectFrom("alert_rules")
    .select("id")
    .where("tenant_id", "=", tenantId)
    .where(sql<boolean>`id = any(${[...ids]}::uuid[])`)
    .execute();
  return new Set(rows.map(({ id }) => id));
}

export async function deleteRule(trx: TenantTransaction, tenantId: string, id: string): Promise<void> {
  await trx.deleteFrom("alert_rules").where("tenant_id", "=", tenantId).where("id", "=", id).execute();
}

/** A page of rules by name, after the name `after`; with stores, only those about them or about every store. */
export function listRules(
  trx: TenantTransaction,
  tenantId: string,
  storeIds: readonly string[],
  limit: number,
  after: string | undefined,
): Promise<AlertRuleRow[]> {
  let select = trx
    .selectFrom("alert_rules")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("name")
    .limit(limit);
  if (storeIds.length > 0)
    select = select.where((or) => or.or([or("store_id", "is", null), or("store_id", "in", storeIds)]));
  if (after !== undefined) select = select.where("name", ">", after);
  return select.execute();
}
