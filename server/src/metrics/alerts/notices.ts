import type { TenantTransaction } from "../../db/tenant.ts";
import { AlertSeverity } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import { emitWebhookEvent, emitWebhookEvents } from "../../webhooks/emit.ts";
import type { AlertEventData } from "../../webhooks/event-types.ts";
import type { AlertRow } from "./alert-row.ts";
import type { Phase } from "./machine.ts";
import type { Rule } from "./rule.ts";

/** A change that people may be told of. */
export interface Notice {
  readonly alert: AlertRow;
  readonly rule: Rule;
  readonly from: Phase;
  readonly to: Phase;
  readonly atMs: number;
}

type NoticeType =
  | "alert.pending"
  | "alert.firing"
  | "alert.acknowledged"
  | "alert.recovering"
  | "alert.resolved";

interface Told {
  readonly type: NoticeType;
  /** Also those whom the rule names: when it fires, when somebody is at it, when it is over. */
  readonly targets: boolean;
}

/**
 * Who is told of a change. States that are only passed through (no `for`, no `recovery_for`) are not told of, and neither is
 * the recovering of an alert that somebody is at.
 */
function toldOf({ alert, rule, from, to }: Notice): Told | undefined {
  switch (to) {
    case "pending":
      return from === "inactive" && rule.forMs > 0 ? { type: "alert.pending", targets: false } : undefined;
    case "firing":
      return { type: "alert.firing", targets: true };
    case "acknowledged":
      return from === "recovering" ? undefined : { type: "alert.acknowledged", targets: true };
    case "recovering":
      return rule.recoveryForMs > 0 && alert.before_recovery === "firing"
        ? { type: "alert.recovering", targets: false }
        : undefined;
    case "resolved":
      if (alert.fired_at) return { type: "alert.resolved", targets: true };
      return rule.forMs > 0 || alert.acknowledged_at ? { type: "alert.resolved", targets: false } : undefined;
    default:
      return undefined;
  }
}

/** Puts notices into the outbox. */
export async function tellOf(
  trx: TenantTransaction,
  tenantId: string,
  notices: readonly Notice[],
  storeNames: ReadonlyMap<string, string>,
): Promise<void> {
  const untargeted = new Map<NoticeType, AlertEventData[]>();
  for (const notice of notices) {
    const told = toldOf(notice);
    if (!told) continue;
    const data = dataOf(notice, storeNames.get(notice.alert.store_id) ?? "");
    const targets = told.targets ? notice.rule.spec.targets : [];
    if (targets.length > 0) {
      await emitWebhookEvent(trx, tenantId, told.type, data, { targets });
    } else {
      const others = untargeted.get(told.type) ?? [];
      others.push(data);
      untargeted.set(told.type, others);
    }
  }
  for (const [type, bodies] of untargeted) await emitWebhookEvents(trx, tenantId, type, bodies);
}

const severities: Readonly<Record<number, AlertEventData["severity"]>> = {
  [AlertSeverity.INFO]: "info",
  [AlertSeverity.WARNING]: "warning",
  [AlertSeverity.CRITICAL]: "critical",
};

function dataOf({ alert, to, atMs }: Notice, storeName: string): AlertEventData {
  return {
    alert_id: alert.id,
    alert_rule_id: alert.rule_id,
    rule_name: alert.rule_name,
    store_id: alert.store_id,
    store_name: storeName,
    metric_name: alert.metric_name,
    labels: alert.labels,
    severity: severities[alert.severity] ?? "warning",
    state: to,
    message: alert.message,
    value: alert.value,
    at: new Date(atMs).toISOString(),
    started_at: alert.started_at.toISOString(),
    fired_at: alert.fired_at?.toISOString() ?? null,
    resolved_at: alert.resolved_at?.toISOString() ?? null,
    acknowledged_by: alert.acknowledged_by,
    acknowledged_note: alert.acknowledged_note,
    acknowledged_until: alert.acknowledged_until?.toISOString() ?? null,
    version: String(alert.version),
  };
}
