import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Alert, AlertState } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import type { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { type Caller, callerOf } from "../../rpc/caller.ts";
import { failure, invalidField, notFound } from "../../rpc/errors.ts";
import { requireStoreAccess } from "../access.ts";
import { type AlertRow, alertMessage, machineState, stateOfPhase, transitionMessage } from "./alert-row.ts";
import { getAlert, listAlerts, transitionsOf } from "./alert-store.ts";
import {
  alertsChannel,
  changeBy,
  evaluationChannel,
  lockEvaluation,
  noteRevision,
  writeChanges,
} from "./changes.ts";
import { acknowledge, openPhases, type Phase } from "./machine.ts";
import { readRule } from "./rule.ts";
import { getRule, specOf } from "./rule-store.ts";
import { currentSilences, isSilenced, type SilenceRow } from "./silences.ts";
import { watchAlerts } from "./watch.ts";

const defaultPageSize = 100;

/** Alerts: listed, shown, acknowledged and watched. */
export function alertHandlers(context: Context): Partial<ServiceImpl<typeof MetricsService>> {
  const { bus, db } = context;
  return {
    async listAlerts({ pageSize, pageToken, states, storeId, ruleId, minSeverity }, call) {
      const caller = callerOf(call);
      const { tenantId } = caller;
      if (storeId) requireStoreAccess(caller, storeId);
      const query = {
        states: states.flatMap(phaseOf),
        storeIds: storeId ? [storeId] : caller.storeIds,
        ruleId,
        minSeverity,
      };
      const identity = `alerts ${tenantId} ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      const { rows, silences } = await withTenant(db, tenantId, async (trx) => ({
        rows: await listAlerts(trx, tenantId, query, limit + 1, after),
        silences: await currentSilences(trx, tenantId),
      }));
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.id]);
      return { alerts: page.map((row) => withSilence(alertMessage(row), silences)), nextPageToken };
    },

    async getAlert({ alertId }, call) {
      const caller = callerOf(call);
      const { tenantId } = caller;
      const { row, changes, silences } = await withTenant(db, tenantId, async (trx) => ({
        row: await requireAlert(trx, caller, alertId),
        changes: await transitionsOf(trx, tenantId, alertId),
        silences: await currentSilences(trx, tenantId),
      }));
      return {
        alert: withSilence(alertMessage(row), silences),
        transitions: changes.map((change) =>
          transitionMessage({
            atMs: change.at.getTime(),
            storeId: row.store_id,
            labels: row.labels,
            from: change.from_state as Phase,
            to: change.to_state as Phase,
            value: change.value ?? undefined,
          }),
        ),
      };
    },

    async acknowledgeAlert({ alertId, note, until }, call) {
      const caller = callerOf(call);
      const { tenantId } = caller;
      const now = new Date();
      const untilMs = quietUntil(until, now);
      const { row, silences } = await withTenant(db, tenantId, async (trx) => {
        const locked = await lockEvaluation(trx, tenantId);
        const before = await requireAlert(trx, caller, alertId);
        const stored = await getRule(trx, tenantId, before.rule_id);
        const step =
          stored && acknowledge(readRule(specOf(stored)), machineState(before), now.getTime(), untilMs);
        if (!stored || !step) throw tooLate(before);
        const rule = readRule(specOf(stored));
        let after = before;
        const changes = step.transitions.map((transition, index) => {
          const change = changeBy(after, rule, transition);
          const isLast = index === step.transitions.length - 1;
          const alert = isLast
            ? { ...change.alert, ...acknowledgedBy(caller, note, now, untilMs) }
            : change.alert;
          after = alert;
          return { ...change, alert };
        });
        const silences = await currentSilences(trx, tenantId);
        const written = await writeChanges(trx, tenantId, locked, changes, silences, now.getTime());
        await noteRevision(trx, tenantId);
        await enterAudit(trx, tenantId, call, { resourceId: alertId });
        return { row: written.at(-1) ?? before, silences };
      });
      await bus.publish(alertsChannel(tenantId), "");
      await bus.publish(evaluationChannel, tenantId);
      return { alert: withSilence(alertMessage(row), silences) };
    },

    watchAlerts: (request, call) => watchAlerts(context, callerOf(call), request, call.signal),
  };
}

/** The alert with whether it is silenced now. */
export function withSilence(alert: Alert, silences: readonly SilenceRow[]): Alert {
  const open = alert.resolvedAt === undefined;
  alert.silenced = open && isSilenced(silences, alert, Date.now());
  return alert;
}

async function requireAlert(trx: TenantTransaction, caller: Caller, id: string): Promise<AlertRow> {
  const row = await getAlert(trx, caller.tenantId, id);
  if (!row) throw notFound("alert", id);
  requireStoreAccess(caller, row.store_id);
  return row;
}

function quietUntil(until: Timestamp | undefined, now: Date): number {
  if (!until) return Number.POSITIVE_INFINITY;
  const untilMs = timestampMs(until);
  if (untilMs > now.getTime() && untilMs <= now.getTime() + maxQuietMs) return untilMs;
  throw invalidField("until", "must lie in the future, at most 366 days ahead", "timestamp.range");
}

const maxQuietMs = 366 * 86_400_000;

function acknowledgedBy(caller: Caller, note: string, now: Date, untilMs: number) {
  return {
    acknowledged_by: caller.userId ?? caller.apiKeyId ?? "",
    acknowledged_at: now,
    acknowledged_note: note,
    acknowledged_until: Number.isFinite(untilMs) ? new Date(untilMs) : null,
  };
}

function tooLate({ state }: AlertRow) {
  return failure(
    ErrorReason.FAILED_PRECONDITION,
    `the alert is ${state}; only one that is pending, firing or acknowledged can be acknowledged`,
    { metadata: { resource: "alert" } },
  );
}

function phaseOf(state: AlertState): AlertRow["state"][] {
  return ([...openPhases, "resolved"] as const).filter((phase) => stateOfPhase[phase] === state);
}
