/** Reads what the evaluation of a tenant begins with. */
import { fromJson } from "@bufbuild/protobuf";
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { AlertRuleSpecSchema } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import type { AlertRow } from "./alert-row.ts";
import { readRule } from "./rule.ts";
import type { LoadedRule, Subject } from "./subjects.ts";

/** The rules that are not disabled. */
export async function loadRules(trx: TenantTransaction, tenantId: string): Promise<LoadedRule[]> {
  const rows = await trx
    .selectFrom("alert_rules")
    .select(["id", "spec", "updated_at"])
    .where("tenant_id", "=", tenantId)
    .where("disabled", "=", false)
    .execute();
  return rows.map(({ id, spec, updated_at }) => ({
    ...readRule(fromJson(AlertRuleSpecSchema, spec, { ignoreUnknownFields: true })),
    id,
    updatedAtMs: updated_at.getTime(),
  }));
}

/** Series of these metrics that were made since a time. */
export async function loadSeries(
  trx: TenantTransaction,
  tenantId: string,
  metricNames: readonly string[],
  madeSinceMs: number,
): Promise<Omit<Subject, "pairs">[]> {
  if (metricNames.length === 0) return [];
  const { rows } = await sql<{
    id: string;
    ref: bigint;
    store_id: string;
    name: string;
    labels: Record<string, string>;
    kind: string;
  }>`
    select id, ref, store_id, name, labels, kind from series
    where tenant_id = ${tenantId}::uuid and name = any(${[...metricNames]}::text[])
      and created_at >= ${new Date(madeSinceMs)}`.execute(trx);
  return rows.map(({ id, ref, store_id, name, labels, kind }) => ({
    id,
    ref: Number(ref),
    storeId: store_id,
    metricName: name,
    labels,
    isCounter: kind === "counter",
  }));
}

/** Stores that were made since a time: when, by id. */
export async function loadStores(
  trx: TenantTransaction,
  tenantId: string,
  madeSinceMs: number,
): Promise<Map<string, number>> {
  const rows = await trx
    .selectFrom("stores")
    .select(["id", "created_at"])
    .where("tenant_id", "=", tenantId)
    .where("created_at", ">=", new Date(madeSinceMs))
    .execute();
  return new Map(rows.map(({ id, created_at }) => [id, created_at.getTime()]));
}

export function loadOpenAlerts(trx: TenantTransaction, tenantId: string): Promise<AlertRow[]> {
  return trx
    .selectFrom("alerts")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("state", "<>", "resolved")
    .execute();
}

/** Up to which sample the alerts that are over since a time have seen, by rule and subject. */
export async function loadSeen(
  trx: TenantTransaction,
  tenantId: string,
  sinceMs: number,
): Promise<{ rule_id: string; subject_id: string; seen_at: Date }[]> {
  const { rows } = await sql<{ rule_id: string; subject_id: string; seen_at: Date }>`
    select rule_id, subject_id, max(seen_at) as seen_at from alerts
    where tenant_id = ${tenantId}::uuid and state = 'resolved' and resolved_at >= ${new Date(sinceMs)}
      and seen_at is not null
    group by rule_id, subject_id`.execute(trx);
  return rows;
}
