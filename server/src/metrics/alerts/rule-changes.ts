/** Changes of rules: what they must name, and what becomes of their alerts. */
import type { TenantTransaction } from "../../db/tenant.ts";
import { type AlertRuleSpec, AlertRuleSpecSchema } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import { invalidField, notFound } from "../../rpc/errors.ts";
import { existingStores } from "../store.ts";
import { machineState } from "./alert-row.ts";
import { changeBy, type EvaluationRow, writeChanges } from "./changes.ts";
import { close } from "./machine.ts";
import { readRule } from "./rule.ts";
import { currentSilences, hasLabels } from "./silences.ts";

/** Throws NOT_FOUND where the rule names a store or a webhook that there is not. */
export async function requireNamed(
  trx: TenantTransaction,
  tenantId: string,
  { storeId, targets }: AlertRuleSpec,
): Promise<void> {
  if (storeId && !(await existingStores(trx, tenantId, [storeId])).has(storeId.toLowerCase()))
    throw notFound("store", storeId);
  const webhookIds = targets.flatMap(({ target }) => (target.case === "webhookId" ? [target.value] : []));
  if (webhookIds.length === 0) return;
  const found = await trx
    .selectFrom("webhooks")
    .select("id")
    .where("tenant_id", "=", tenantId)
    .where("id", "in", webhookIds)
    .execute();
  const known = new Set(found.map(({ id }) => id));
  const missing = webhookIds.find((id) => !known.has(id.toLowerCase()));
  if (missing !== undefined) throw notFound("webhook", missing);
}

/** The rule with the fields of `paths` taken from `given`; all where none are named. */
export function merged(
  current: AlertRuleSpec,
  given: AlertRuleSpec,
  paths: readonly string[] | undefined,
): AlertRuleSpec {
  if (!paths || paths.length === 0) return given;
  const next = { ...current } as AlertRuleSpec & Record<string, unknown>;
  for (const path of paths) {
    const name = path.replace(/^spec\./, "");
    const field = AlertRuleSpecSchema.fields.find((one) => one.name === name || one.jsonName === name);
    if (!field) {
      const names = AlertRuleSpecSchema.fields.map((one) => one.name).join(", ");
      throw invalidField("update_mask", `'${path}' is no field of a rule; name any of ${names}`);
    }
    if (field.oneof) {
      // A condition that is named replaces the one there is.
      if (given.condition.case !== field.localName)
        throw invalidField(`spec.${field.name}`, "is named by update_mask and not set");
      next.condition = given.condition;
    } else {
      Object.assign(next, { [field.localName]: given[field.localName as keyof AlertRuleSpec] });
    }
  }
  return next;
}

/**
 * Resolves open alerts of a rule that it is not about any more; without `after`, all. `before` is what the rule said when
 * they were raised.
 */
export async function closeAlerts(
  trx: TenantTransaction,
  tenantId: string,
  locked: EvaluationRow,
  ruleId: string,
  before: AlertRuleSpec,
  after: AlertRuleSpec | undefined,
  now: Date,
): Promise<void> {
  const open = await trx
    .selectFrom("alerts")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("rule_id", "=", ruleId)
    .where("state", "<>", "resolved")
    .execute();
  const rule = readRule(before);
  const changes = open
    .filter(
      (alert) =>
        !after ||
        after.disabled ||
        after.metricName !== alert.metric_name ||
        (after.condition.case === "absence") !== (before.condition.case === "absence") ||
        (after.storeId !== "" && after.storeId.toLowerCase() !== alert.store_id) ||
        (alert.subject_id !== alert.store_id && !hasLabels(alert.labels, after.labels)),
    )
    .flatMap((alert) => {
      let row = alert;
      return close(rule, machineState(alert), now.getTime()).transitions.map((transition) => {
        const change = changeBy(row, rule, transition);
        row = change.alert;
        return change;
      });
    });
  const silences = await currentSilences(trx, tenantId);
  await writeChanges(trx, tenantId, locked, changes, silences, now.getTime());
}
