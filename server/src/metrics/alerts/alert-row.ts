import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Selectable } from "kysely";
import type { AlertsTable } from "../../db/schema/alerts.ts";
import {
  type Alert,
  AlertSchema,
  AlertState,
  type AlertTransition,
  AlertTransitionSchema,
} from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import type { OpenState, Phase, State, Transition } from "./machine.ts";

export type AlertRow = Selectable<AlertsTable>;

/** The states of the contract; a series without an alert has none. */
export const stateOfPhase: Readonly<Record<Phase, AlertState>> = {
  inactive: AlertState.UNSPECIFIED,
  pending: AlertState.PENDING,
  firing: AlertState.FIRING,
  acknowledged: AlertState.ACKNOWLEDGED,
  recovering: AlertState.RECOVERING,
  resolved: AlertState.RESOLVED,
};

/** The alert as the state machine sees it. */
export function machineState(row: AlertRow): State {
  if (row.state === "resolved") return undefined;
  const state: OpenState = {
    phase: row.state,
    startedAtMs: row.started_at.getTime(),
    sinceMs: row.since.getTime(),
    firedAtMs: row.fired_at?.getTime(),
  };
  if (!row.acknowledged_at) return { ...state, beforeRecovery: row.before_recovery ?? undefined };
  return {
    ...state,
    quietUntilMs: row.acknowledged_until?.getTime() ?? Number.POSITIVE_INFINITY,
    beforeRecovery: row.before_recovery ?? undefined,
  };
}

/** The alert after a transition: its next version. */
export function afterTransition(row: AlertRow, { atMs, to, value, state }: Transition): AlertRow {
  const at = new Date(atMs);
  const next: AlertRow = {
    ...row,
    state: to === "inactive" ? "resolved" : to,
    since: at,
    value: value ?? row.value,
    fired_at: state?.firedAtMs === undefined ? row.fired_at : new Date(state.firedAtMs),
    resolved_at: to === "resolved" ? at : null,
    before_recovery: state?.beforeRecovery ?? null,
    version: row.version + 1n,
  };
  // Whoever was at it is not any more.
  return to === "firing" || to === "pending" ? { ...next, ...nobody } : next;
}

const nobody = {
  acknowledged_by: null,
  acknowledged_at: null,
  acknowledged_note: null,
  acknowledged_until: null,
} satisfies Partial<AlertRow>;

/** The alert as callers see it. */
export function alertMessage(row: AlertRow): Alert {
  return create(AlertSchema, {
    id: row.id,
    ruleId: row.rule_id,
    ruleName: row.rule_name,
    storeId: row.store_id,
    metricName: row.metric_name,
    labels: row.labels,
    state: stateOfPhase[row.state],
    severity: row.severity,
    message: row.message,
    ...(row.value !== null && { value: row.value }),
    startedAt: timestampFromDate(row.started_at),
    ...(row.fired_at && { firedAt: timestampFromDate(row.fired_at) }),
    ...(row.resolved_at && { resolvedAt: timestampFromDate(row.resolved_at) }),
    ...(row.acknowledged_at && {
      acknowledgement: {
        by: row.acknowledged_by ?? "",
        at: timestampFromDate(row.acknowledged_at),
        note: row.acknowledged_note ?? "",
        ...(row.acknowledged_until && { until: timestampFromDate(row.acknowledged_until) }),
      },
    }),
    version: row.version,
  });
}

/** How a version of an alert is stored. */
export const alertBody = (row: AlertRow): JsonObject => toJson(AlertSchema, alertMessage(row)) as JsonObject;

/** A stored version. */
export const alertOfBody = (body: JsonObject): Alert =>
  fromJson(AlertSchema, body, { ignoreUnknownFields: true });

export interface TransitionFacts {
  readonly atMs: number;
  readonly storeId: string;
  readonly labels: Record<string, string>;
  readonly from: Phase;
  readonly to: Phase;
  readonly value: number | undefined;
}

export function transitionMessage(facts: TransitionFacts): AlertTransition {
  const { atMs, storeId, labels, from, to, value } = facts;
  return create(AlertTransitionSchema, {
    at: timestampFromMs(atMs),
    storeId,
    labels,
    from: stateOfPhase[from],
    to: stateOfPhase[to],
    ...(value !== undefined && { value }),
  });
}
