/** Functions, their invocations and logs. */
import type { ColumnType, Generated } from "kysely";
import type { CreatedAt, Fixed, NullableTimestamp, Timestamp } from "./columns.ts";

/** By name. */
export interface FunctionTables {
  functions: FunctionsTable;
  function_templates: FunctionTemplatesTable;
  invocations: InvocationsTable;
  invocation_attempts: InvocationAttemptsTable;
  function_logs: FunctionLogsTable;
  log_sources: LogSourcesTable;
  log_chunks: LogChunksTable;
}

export type FunctionState = "PENDING" | "RUNNING" | "DEGRADED" | "FAILED" | "DELETED";

/** How often and after which pauses a failed invocation is tried again, with the defaults filled in. */
export interface RetryRule {
  maxAttempts: number;
  initialBackoffMs: number;
  maxBackoffMs: number;
  multiplier: number;
}

/** Functions: what is wanted, and what was found. */
export interface FunctionsTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: Fixed<string>;
  namespace: Fixed<string>;
  created_by: Fixed<string>;
  replicas: number;
  warm_pool_size: number;
  invocation_timeout_ms: bigint;
  retry_policy: ColumnType<RetryRule, string, string>;
  /** Number of the template of new containers. */
  template: number;
  /** One more with every change of what is wanted. */
  generation: ColumnType<bigint, bigint | undefined, bigint>;
  observed_generation: ColumnType<bigint, bigint | undefined, bigint>;
  status: FunctionState;
  status_reason: string;
  available_replicas: Generated<number>;
  runtime: Generated<string>;
  /** How often in a row containers failed, and when the last one did: the next start waits. */
  failures: Generated<number>;
  failed_at: NullableTimestamp;
  /** When the reconciler looks next; null: when it hears of something. */
  due_at: NullableTimestamp;
  created_at: CreatedAt;
  /** When what is wanted last changed: the etag. */
  wanted_at: Timestamp;
  updated_at: Timestamp;
  deleted_at: NullableTimestamp;
}

/** What a function's containers are made from. */
export interface FunctionTemplatesTable {
  tenant_id: Fixed<string>;
  function_id: Fixed<string>;
  number: Fixed<number>;
  image: Fixed<string>;
  command: Fixed<string[]>;
  invocation_command: Fixed<string[]>;
  env: ColumnType<Record<string, string>, string, never>;
  secret_env_names: Fixed<string[]>;
  /** TemplateSecrets in JSON, sealed; null: none. */
  sealed_secrets: Fixed<string | null>;
  has_registry_credentials: Fixed<boolean>;
  cpu_millicores: Fixed<number>;
  memory_bytes: Fixed<bigint>;
}

export type InvocationState =
  | "PENDING"
  | "STARTING"
  | "RUNNING"
  | "RETRYING"
  | "SUCCEEDED"
  | "FAILED"
  | "CANCELLED"
  | "TIMED_OUT";

/** Invocations of functions. */
export interface InvocationsTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  function_id: Fixed<string>;
  template: Fixed<number>;
  job_name: Fixed<string>;
  created_by: Fixed<string>;
  phase: InvocationState;
  reason: Generated<string>;
  /** JSON; null: no input. */
  input: ColumnType<unknown, string | null, never>;
  result: ColumnType<unknown, string | null | undefined, string | null>;
  result_truncated: Generated<boolean>;
  exit_code: ColumnType<number | null, number | null | undefined, number | null>;
  timeout_ms: Fixed<bigint>;
  retry_policy: ColumnType<RetryRule, string, never>;
  /** The latest attempt; 0: none yet. */
  attempt: Generated<number>;
  /** Time spent in phases that are over. */
  pending_ms: ColumnType<bigint, bigint | undefined, bigint>;
  starting_ms: ColumnType<bigint, bigint | undefined, bigint>;
  running_ms: ColumnType<bigint, bigint | undefined, bigint>;
  retrying_ms: ColumnType<bigint, bigint | undefined, bigint>;
  /** When the present phase began. */
  phase_at: Timestamp;
  /** When a worker looks next; null: it has ended and nothing is left to do. */
  due_at: NullableTimestamp;
  created_at: CreatedAt;
  started_at: NullableTimestamp;
  finished_at: NullableTimestamp;
  callback_url: ColumnType<string | null, string | null | undefined, never>;
  sealed_callback_secret: ColumnType<string | null, string | null | undefined, never>;
  callback_status: ColumnType<
    "PENDING" | "DELIVERED" | "FAILED" | null,
    "PENDING" | null | undefined,
    "PENDING" | "DELIVERED" | "FAILED"
  >;
  callback_attempts: Generated<number>;
  callback_error: Generated<string>;
  callback_delivered_at: NullableTimestamp;
  callback_due_at: NullableTimestamp;
}

export interface InvocationAttemptsTable {
  tenant_id: Fixed<string>;
  invocation_id: Fixed<string>;
  number: Fixed<number>;
  phase: Exclude<InvocationState, "RETRYING">;
  reason: Generated<string>;
  exit_code: ColumnType<number | null, number | null | undefined, number | null>;
  replica: Generated<string>;
  started_at: NullableTimestamp;
  finished_at: NullableTimestamp;
}

/** The log of a function as a whole. */
export interface FunctionLogsTable {
  tenant_id: Fixed<string>;
  function_id: Fixed<string>;
  last_line: ColumnType<bigint, bigint | undefined, bigint>;
  /** Lines up to this one are gone. */
  removed_until: ColumnType<bigint, bigint | undefined, bigint>;
  /** Of all chunks, as stored. */
  bytes: ColumnType<bigint, bigint | undefined, bigint>;
  /** The function is deleted and nothing more will come. */
  ended: Generated<boolean>;
}

/** Containers whose output is read into a log. */
export interface LogSourcesTable {
  tenant_id: Fixed<string>;
  function_id: Fixed<string>;
  unit_id: Fixed<string>;
  replica: Fixed<string>;
  invocation_id: Fixed<string | null>;
  attempt: Fixed<number>;
  /** Where reading goes on; the runtime's own. */
  position: ColumnType<unknown, string | null | undefined, string | null>;
  /** All of it has been read. */
  ended: Generated<boolean>;
  read_at: Timestamp;
}

/** Lines of one container, numbered in the function's log. */
export interface LogChunksTable {
  tenant_id: Fixed<string>;
  function_id: Fixed<string>;
  last_line: Fixed<bigint>;
  first_line: Fixed<bigint>;
  first_at: Fixed<Date>;
  last_at: Fixed<Date>;
  written_at: CreatedAt;
  replica: Fixed<string>;
  invocation_id: Fixed<string | null>;
  attempt: Fixed<number>;
  lines: Fixed<Buffer>;
}
