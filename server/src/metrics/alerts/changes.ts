/**
 * Writes changes of alerts: the alerts, every version of them, and what webhooks are to be told, all in the caller's transaction.
 * Whoever changes alerts, rules or silences of a tenant first takes `lockEvaluation`, which it holds until the commit.
 */
import { type Selectable, sql } from "kysely";
import type { AlertEvaluationsTable } from "../../db/schema/alerts.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { type AlertRuleSpec, AlertSeverity } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import { type AlertRow, afterTransition, alertBody } from "./alert-row.ts";
import type { Phase, Transition } from "./machine.ts";
import { tellOf } from "./notices.ts";
import type { Rule } from "./rule.ts";
import { isSilenced, type SilenceRow } from "./silences.ts";
import { alertText } from "./text.ts";

export type EvaluationRow = Selectable<AlertEvaluationsTable>;

/** Messages on it say that alerts of the tenant have changed. */
export const alertsChannel = (tenantId: string): string => `alerts:${tenantId}`;
/** Messages are ids of tenants whose rules, silences or alerts were changed by a caller. */
export const evaluationChannel = "alert-evaluation";

/** Where the evaluation of the tenant stands, held until the transaction ends; made where there is none. */
export async function lockEvaluation(trx: TenantTransaction, tenantId: string): Promise<EvaluationRow> {
  return await trx
    .insertInto("alert_evaluations")
    .values({ tenant_id: tenantId })
    .onConflict((conflict) => conflict.column("tenant_id").doUpdateSet({ tenant_id: tenantId } as object))
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Has the tenant evaluated anew, at once, with what a caller has changed. */
export async function noteRevision(trx: TenantTransaction, tenantId: string): Promise<void> {
  await sql`
    update alert_evaluations set revision = revision + 1, due_at = now()
    where tenant_id = ${tenantId}::uuid`.execute(trx);
}

/** A change of an alert that is still to be written. */
export interface Change {
  /** The alert after it; its text and its place among the changes come with the writing. */
  readonly alert: AlertRow;
  readonly rule: Rule;
  readonly from: Phase;
  readonly to: Phase;
  readonly atMs: number;
  readonly value: number | undefined;
}

/** The change that a transition makes. */
export function changeBy(alert: AlertRow, rule: Rule, transition: Transition): Change {
  const { from, to, atMs, value } = transition;
  return { alert: afterTransition(alert, transition), rule, from, to, atMs, value };
}

/**
 * Writes changes, in this order; `locked` is the row of `lockEvaluation`. Returns the alerts as they are stored now, each
 * change's own.
 */
export async function writeChanges(
  trx: TenantTransaction,
  tenantId: string,
  locked: EvaluationRow,
  changes: readonly Change[],
  silences: readonly SilenceRow[],
  nowMs: number,
): Promise<AlertRow[]> {
  if (changes.length === 0) return [];
  const stores = await storeNames(trx, tenantId, [...new Set(changes.map(({ alert }) => alert.store_id))]);
  const opened = new Map<string, bigint>();
  const muted = new Map<string, boolean>();
  let sequence = locked.sequence;
  const written = changes.map((change) => {
    sequence += 1n;
    const { alert, rule, from, to } = change;
    if (from === "inactive") opened.set(alert.id, sequence);
    const silenced = isSilenced(
      silences,
      { storeId: alert.store_id, ruleId: alert.rule_id, labels: alert.labels },
      nowMs,
    );
    const wasMuted = muted.get(alert.id) ?? alert.muted;
    const isMuted = to === "firing" ? silenced : to === "recovering" ? wasMuted : false;
    muted.set(alert.id, isMuted);
    const row: AlertRow = {
      ...alert,
      message: alertText(rule.spec, {
        store: stores.get(alert.store_id) ?? "",
        metric: alert.metric_name,
        value: alert.value ?? undefined,
        labels: alert.labels,
      }),
      muted: isMuted,
      opened_sequence: opened.get(alert.id) ?? alert.opened_sequence,
      closed_sequence: to === "resolved" ? sequence : null,
    };
    // Of one that fired under a silence nobody was told, so there is nothing to take back.
    return { change, row, sequence, untold: silenced || (wasMuted && to !== "acknowledged") };
  });
  await trx.updateTable("alert_evaluations").set({ sequence }).where("tenant_id", "=", tenantId).execute();
  // Of each alert the last one, in the order of the changes: one that is resolved makes room for the next.
  await upsertAlerts(trx, [...new Map(written.map(({ row }) => [row.id, row])).values()]);
  await insertVersions(
    trx,
    written.map(({ change, row, sequence }) => ({
      tenant_id: tenantId,
      sequence: String(sequence),
      alert_id: row.id,
      store_id: row.store_id,
      at: new Date(change.atMs),
      from_state: change.from,
      to_state: change.to,
      value: change.value ?? null,
      body: alertBody(row),
    })),
  );
  await tellOf(
    trx,
    tenantId,
    written.filter(({ untold }) => !untold).map(({ change, row }) => ({ ...change, alert: row })),
    stores,
  );
  return written.map(({ row }) => row);
}

/** The severity of a rule's alerts: WARNING where it says none. */
export const severityOf = ({ severity }: AlertRuleSpec): AlertSeverity => severity || AlertSeverity.WARNING;

/** Names of stores, by id. */
export async function storeNames(
  trx: TenantTransaction,
  tenantId: string,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const rows = await trx
    .selectFrom("stores")
    .select(["id", "name"])
    .where("tenant_id", "=", tenantId)
    .where(sql<boolean>`id = any(${[...ids]}::uuid[])`)
    .execute();
  return new Map(rows.map(({ id, name }) => [id, name]));
}

async function upsertAlerts(trx: TenantTransaction, rows: readonly AlertRow[]): Promise<void> {
  const json = JSON.stringify(rows, (_, value) => (typeof value === "bigint" ? String(value) : value));
  const changing = [
    "rule_name",
    "severity",
    "state",
    "message",
    "value",
    "since",
    "fired_at",
    "resolved_at",
    "before_recovery",
    "seen_at",
    "acknowledged_by",
    "acknowledged_at",
    "acknowledged_note",
    "acknowledged_until",
    "muted",
    "version",
    "closed_sequence",
  ];
  const assignments = sql.join(changing.map((name) => sql`${sql.ref(name)} = excluded.${sql.ref(name)}`));
  await sql`
    insert into alerts select * from json_populate_recordset(null::alerts, ${json}::json)
    on conflict (tenant_id, id) do update set ${assignments}`.execute(trx);
}

async function insertVersions(trx: TenantTransaction, rows: readonly object[]): Promise<void> {
  await sql`
    insert into alert_changes
    select * from json_populate_recordset(null::alert_changes, ${JSON.stringify(rows)}::json)`.execute(trx);
}
