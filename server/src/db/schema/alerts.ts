/** Alert rules, alerts and silences. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { ColumnType, Generated } from "kysely";
import type { CreatedAt, Fixed, NullableTimestamp, Timestamp } from "./columns.ts";

/** By name. */
export interface AlertTables {
  alert_rules: AlertRulesTable;
  alerts: AlertsTable;
  alert_changes: AlertChangesTable;
  silences: SilencesTable;
  alert_evaluations: AlertEvaluationsTable;
}

export interface AlertRulesTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: string;
  /** Null: every store. */
  store_id: string | null;
  metric_name: string;
  disabled: boolean;
  /** AlertRuleSpec in ProtoJSON. */
  spec: ColumnType<JsonObject, string, string>;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

export interface AlertsTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  /** May be gone. */
  rule_id: Fixed<string>;
  rule_name: string;
  store_id: Fixed<string>;
  /** The series, or the store where it has none. */
  subject_id: Fixed<string>;
  metric_name: Fixed<string>;
  labels: ColumnType<Record<string, string>, string, never>;
  severity: number;
  state: "pending" | "firing" | "acknowledged" | "recovering" | "resolved";
  message: string;
  value: number | null;
  started_at: Date;
  /** When it came into its state. */
  since: Date;
  fired_at: NullableTimestamp;
  resolved_at: NullableTimestamp;
  before_recovery: "firing" | "acknowledged" | null;
  /** Time of the newest sample that was taken in. */
  seen_at: NullableTimestamp;
  acknowledged_by: string | null;
  acknowledged_at: NullableTimestamp;
  acknowledged_note: string | null;
  acknowledged_until: NullableTimestamp;
  /** It fired under a silence: a notice is owed when that is over. */
  muted: Generated<boolean>;
  version: bigint;
  /** The changes with which it began and ended. */
  opened_sequence: Fixed<bigint>;
  closed_sequence: bigint | null;
}

/** Every version of every alert. */
export interface AlertChangesTable {
  tenant_id: Fixed<string>;
  /** In the order of the commits. */
  sequence: Fixed<bigint>;
  alert_id: Fixed<string>;
  store_id: Fixed<string>;
  at: Fixed<Date>;
  from_state: Fixed<string>;
  to_state: Fixed<string>;
  value: Fixed<number | null>;
  /** Alert in ProtoJSON, as it was then. */
  body: ColumnType<JsonObject, string, never>;
}

export interface SilencesTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  store_id: Fixed<string | null>;
  rule_id: Fixed<string | null>;
  labels: ColumnType<Record<string, string>, string, never>;
  starts_at: Fixed<Date>;
  ends_at: Fixed<Date>;
  reason: Fixed<string>;
  created_by: Fixed<string>;
  created_at: CreatedAt;
}

/** Where the evaluation of a tenant's rules stands. */
export interface AlertEvaluationsTable {
  tenant_id: Fixed<string>;
  /** Number of the latest change of an alert. */
  sequence: Generated<bigint>;
  /** Changes up to this one were removed for their age, as far as their alerts were resolved. */
  removed_sequence: Generated<bigint>;
  /** Grows with every change of rules, silences and alerts that the evaluation did not make. */
  revision: Generated<bigint>;
  /** Samples up to this time were evaluated. */
  evaluated_until: Timestamp;
  /** When it is to be evaluated at the latest; null: it has no rules. */
  due_at: NullableTimestamp;
}
