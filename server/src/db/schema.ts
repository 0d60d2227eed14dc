import type { JsonObject } from "@bufbuild/protobuf";
import type { ColumnType, Generated, GeneratedAlways, JSONColumnType } from "kysely";

/** The tables as the service sees them. Column by column the same as `server/schema.sql`. */
export interface Database {
  tenants: TenantsTable;
  users: UsersTable;
  sessions: SessionsTable;
  login_failures: LoginFailuresTable;
  installation_secrets: InstallationSecretsTable;
  email_codes: EmailCodesTable;
  email_code_requests: EmailCodeRequestsTable;
  api_keys: ApiKeysTable;
  signing_keys: SigningKeysTable;
  idempotency_keys: IdempotencyKeysTable;
  identity_providers: IdentityProvidersTable;
  external_identities: ExternalIdentitiesTable;
  stores: StoresTable;
  store_activity: StoreActivityTable;
  series: SeriesTable;
  sample_batches: SampleBatchesTable;
  sample_blocks: SampleBlocksTable;
  deleted_series: DeletedSeriesTable;
  events: EventsTable;
  event_keys: EventKeysTable;
  event_batches: EventBatchesTable;
  event_rollup_state: EventRollupStateTable;
  event_names: EventNamesTable;
  event_rollups: EventRollupsTable;
  event_rollup_builds: EventRollupBuildsTable;
  event_dead_letters: EventDeadLettersTable;
  audit_entries: AuditEntriesTable;
  leases: LeasesTable;
  webhook_events: WebhookEventsTable;
  alert_rules: AlertRulesTable;
  alerts: AlertsTable;
  alert_changes: AlertChangesTable;
  silences: SilencesTable;
  alert_evaluations: AlertEvaluationsTable;
  usage_days: UsageDaysTable;
  usage_increments: UsageIncrementsTable;
  usage_active: UsageActiveTable;
  webhooks: WebhooksTable;
  deliveries: DeliveriesTable;
  progress_files: ProgressFilesTable;
  progress_line_issues: ProgressLineIssuesTable;
  progress_updates: ProgressUpdatesTable;
  progress_feeds: ProgressFeedsTable;
  progress_deltas: ProgressDeltasTable;
  progress_set_aside: ProgressSetAsideTable;
  functions: FunctionsTable;
  function_templates: FunctionTemplatesTable;
  invocations: InvocationsTable;
  invocation_attempts: InvocationAttemptsTable;
  function_logs: FunctionLogsTable;
  log_sources: LogSourcesTable;
  log_chunks: LogChunksTable;
}

/** Set by the database on insert, may be given. */
type Timestamp = ColumnType<Date, Date | string | undefined, Date | string>;
type NullableTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>;
/** Set on insert and never changed. */
type Fixed<T> = ColumnType<T, T, never>;
type CreatedAt = ColumnType<Date, Date | string | undefined, never>;
type Labels = JSONColumnType<Record<string, string>, string | undefined, string>;

export type Role = "OWNER" | "ADMIN" | "MEMBER" | "VIEWER";
export type TenantState = "ACTIVE" | "SUSPENDED";
export type UserState = "INVITED" | "ACTIVE" | "DISABLED";

export interface TenantsTable {
  id: Fixed<string>;
  /** Lower-case name in URLs and KRNs, unique in the installation. */
  slug: string;
  name: string;
  contact_email: string;
  state: Generated<TenantState>;
  /** The limits that were set for the tenant, as TenantLimits in ProtoJSON. */
  limits: ColumnType<JsonObject, string | undefined, string>;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

export interface UsersTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  /** In lower case; unique in the tenant. */
  email: string;
  display_name: string;
  password_hash: string | null;
  must_change_password: Generated<boolean>;
  /** Until when a temporary password is good; null for a password of one's own. */
  temporary_password_expires_at: NullableTimestamp;
  role: Role;
  state: Generated<UserState>;
  /** A code sent to the address was entered. */
  email_verified: Generated<boolean>;
  /** An identity provider of the tenant vouches for the address, which proves nothing to other tenants. */
  email_vouched: Generated<boolean>;
  /** The identity provider that the user came through. */
  identity_provider_id: string | null;
  /** The subject at the identity provider, or the `user_id` of a development token. */
  external_id: string | null;
  last_login_at: NullableTimestamp;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

/** People who are signed in. A session that has ended is deleted. */
export interface SessionsTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  user_id: Fixed<string>;
  /** Hash of the secret that all refresh tokens of the session share; null: it cannot be refreshed. */
  family_hash: Buffer | null;
  /** Hash of the secret of the latest refresh token. */
  refresh_hash: Buffer | null;
  /** Access tokens of another epoch are void. */
  epoch: Generated<number>;
  /** Opened with a temporary password: nothing may be administered. */
  restricted: Generated<boolean>;
  created_at: CreatedAt;
  expires_at: Timestamp;
}

/** Wrong passwords, by account, whether or not there is such an account. Belongs to no tenant. */
export interface LoginFailuresTable {
  /** Keyed hash of tenant slug and address. */
  account: Fixed<Buffer>;
  failures: number;
  locked_until: NullableTimestamp;
  forget_at: Timestamp;
}

/** Random keys of the installation. Belongs to no tenant. */
export interface InstallationSecretsTable {
  name: Fixed<string>;
  value: Fixed<Buffer>;
  created_at: CreatedAt;
}

/** Codes sent by e-mail that are still good. Belongs to no tenant. */
export interface EmailCodesTable {
  /** Keyed hash of the address. */
  address: Fixed<Buffer>;
  purpose: Fixed<CodePurpose>;
  /** Keyed hash of the code. */
  code_hash: Buffer;
  attempts: Generated<number>;
  expires_at: Timestamp;
}

export type CodePurpose = "LOGIN" | "PASSWORD_RECOVERY";

/** When codes were asked for, by address. Belongs to no tenant. */
export interface EmailCodeRequestsTable {
  address: Fixed<Buffer>;
  /** Those of the last hour. */
  requested_at: Date[];
  forget_at: Timestamp;
}

export interface ApiKeysTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: string;
  /** The first characters of the secret, to recognise a key by. */
  key_prefix: string;
  /** A hash of the whole secret, unique in the installation. */
  key_hash: Buffer;
  scopes: Generated<string[]>;
  /** The only stores that the key is good for; empty: all. */
  store_ids: Generated<string[]>;
  /** The only addresses that it may be used from, as prefixes; empty: all. */
  allowed_ip_ranges: Generated<string[]>;
  /** 0: no limit of its own. */
  requests_per_minute: Generated<number>;
  /** A user or another key, which may be gone; null: the server itself. */
  created_by: Fixed<string | null>;
  created_at: CreatedAt;
  expires_at: NullableTimestamp;
  /** Written in batches. */
  last_used_at: NullableTimestamp;
  last_used_address: Generated<string>;
  revoked_at: NullableTimestamp;
  /** The keys before and after it by rotation. */
  rotated_from: ColumnType<string | null, string | null | undefined, never>;
  rotated_to: string | null;
}

/** Keys of the installation that sign tokens. Belongs to no tenant. */
export interface SigningKeysTable {
  kid: Fixed<string>;
  algorithm: Fixed<string>;
  public_jwk: ColumnType<Record<string, unknown>, string, never>;
  /** A JWK in JSON or, where the operator gave an encryption key, a JWE of it. */
  private_key: string;
  /** From when on it signs; before, it is only published. */
  signs_from: Fixed<Date>;
  created_at: CreatedAt;
}

/** Outside issuers that a tenant trusts. */
export interface IdentityProvidersTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: Fixed<string>;
  issuer: Fixed<string>;
  audiences: Fixed<string[]>;
  allowed_email_domains: Fixed<string[]>;
  /** ClaimMapping in ProtoJSON. */
  claim_mapping: ColumnType<JsonObject, string, never>;
  /** Either this or `jwks_json`. */
  jwks_uri: ColumnType<string | null, string | undefined, never>;
  jwks_json: ColumnType<string | null, string | undefined, never>;
  algorithms: Fixed<string[]>;
  create_users: Fixed<boolean>;
  default_role: Fixed<Exclude<Role, "OWNER">>;
  /** The most that users it vouches for may be. */
  highest_role: Fixed<Role>;
  created_at: CreatedAt;
  keys_fetched_at: NullableTimestamp;
  /** Empty: they could be fetched the last time. */
  keys_error: Generated<string>;
}

/** Which user an identity of an outside issuer stands for. */
export interface ExternalIdentitiesTable {
  tenant_id: Fixed<string>;
  issuer: Fixed<string>;
  /** The claim that the subject is read from. */
  subject_claim: Fixed<string>;
  subject: Fixed<string>;
  user_id: Fixed<string>;
  /** The user's role came from the claim mapping. */
  role_mapped: boolean;
  created_at: CreatedAt;
}

/** Calls that carry a request id. Belongs to no tenant: some are made before one is known. */
export interface IdempotencyKeysTable {
  /** A hash of method, tenant, caller and request id. */
  id: Fixed<Buffer>;
  /** Tells the content apart, but only to whoever has the request id. */
  fingerprint: Buffer;
  /** The run that may take effect; another takes over when the lease has lapsed without any. */
  attempt: string;
  lease_until: Date;
  /** Set in the transaction of the effect itself. */
  effect_at: Date | null;
  /** Encrypted with a key that is stored nowhere. */
  answer: Buffer | null;
  expires_at: Date;
}

export interface StoresTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: string;
  description: Generated<string>;
  /** How often the store is expected to send. */
  expected_interval_ms: bigint | null;
  labels: Labels;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

/** When a store was last heard from. */
export interface StoreActivityTable {
  tenant_id: Fixed<string>;
  store_id: Fixed<string>;
  /** Time of the latest sample, by the store's own clock. */
  last_sample_at: Date;
  /** When samples were last received. */
  last_received_at: Date;
  /** Since when there was no gap longer than the expected interval. */
  heard_since: Date;
}

export interface SeriesTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  store_id: Fixed<string>;
  name: Fixed<string>;
  labels: ColumnType<Record<string, string>, string | undefined, never>;
  kind: string;
  unit: Generated<string>;
  created_at: CreatedAt;
  /** What stored samples call the series; unique in the installation and never used again. */
  ref: GeneratedAlways<bigint>;
}

/** What a flush wrote of a tenant, until the compaction takes it; see `metrics/storage/batch.ts`. */
export interface SampleBatchesTable {
  tenant_id: Fixed<string>;
  /** Of two batches, one committed before the other began, the later has the greater. */
  seq: GeneratedAlways<bigint>;
  written_at: CreatedAt;
  /** The earliest and the latest time of its samples, milliseconds since 1970. */
  min_ms: Fixed<bigint>;
  max_ms: Fixed<bigint>;
  samples: Fixed<number>;
  data: Fixed<Buffer>;
}

/** Series of deleted stores whose samples are still in blocks. */
export interface DeletedSeriesTable {
  tenant_id: Fixed<string>;
  ref: Fixed<bigint>;
}

/** Compacted samples of some series of one day; see `metrics/storage/block.ts`. */
export interface SampleBlocksTable {
  tenant_id: Fixed<string>;
  /** UTC; all its samples are of it. */
  day: Fixed<string>;
  /** Blocks that were made together; of equal series and times, those of the greatest run of a day stand. */
  run: bigint;
  first_ref: Fixed<bigint>;
  last_ref: Fixed<bigint>;
  min_ms: Fixed<bigint>;
  max_ms: Fixed<bigint>;
  /** How often its samples were merged. */
  level: Fixed<number>;
  samples: Fixed<number>;
  written_at: CreatedAt;
  data: Fixed<Buffer>;
  /** What they come to by the hour; see `metrics/storage/rollup.ts`. */
  rollup: Fixed<Buffer | null>;
}

export interface EventsTable {
  tenant_id: Fixed<string>;
  /** UUIDv7 made here: the order of receipt, and the partition. */
  id: Fixed<string>;
  /** The sender's own id. */
  event_id: Fixed<string>;
  event_type: Fixed<string>;
  user_id: Fixed<string | null>;
  session_id: Fixed<string | null>;
  severity: Fixed<number>;
  priority: Fixed<number>;
  occurred_at: Fixed<Date>;
  /** The event as it was sent, as a message in canonical form. */
  encoded: Fixed<Buffer>;
  /** The event's metrics by name; null where it has none. */
  metrics: ColumnType<Record<string, number> | null, string | null | undefined, never>;
  source_service: Fixed<string | null>;
  /** The transaction that wrote the row, as a number: with it goes one row of `event_batches`. Set by the database. */
  batch: ColumnType<string, never, never>;
}

/** One row a tenant: its lock is held by whoever changes the rollups of the tenant. */
export interface EventRollupStateTable {
  tenant_id: Fixed<string>;
  /** Events of all batches that were processed. */
  accepted: bigint;
  /** The highest number given so far, by kind of name. */
  last_numbers: number[];
  /** What is remembered of names from an earlier epoch is void. */
  names_epoch: number;
  /** No cursor of a watch may begin before this batch. */
  trimmed_xid: string;
  /** Events received before this time were dropped: rollups of that time cannot be recounted. */
  dropped_until: ColumnType<Date | number, Date | undefined, Date>;
}

/** The numbers that rollups have for types, users, sessions and metrics. */
export interface EventNamesTable {
  tenant_id: Fixed<string>;
  /** See rollups/names.ts. */
  kind: Fixed<number>;
  number: Fixed<number>;
  name: Fixed<string>;
  /** The last day on which it was certainly used. */
  seen: string;
  /** The epoch in which it was last looked up. */
  epoch: number;
}

/** What happened in a minute, or in a longer period made of such. See rollups/levels.ts. */
export interface EventRollupsTable {
  tenant_id: Fixed<string>;
  level: Fixed<number>;
  /** Its start. */
  bucket: Fixed<Date>;
  /** The transaction that wrote it last. */
  version: Generated<string>;
  /** See rollups/summary.ts. */
  summary: ColumnType<unknown, string, string>;
  /** See rollups/entries.ts. */
  entries: Buffer;
}

/** Longer periods that are to be made of shorter ones. */
export interface EventRollupBuildsTable {
  tenant_id: Fixed<string>;
  level: Fixed<number>;
  bucket: Fixed<Date>;
  due_at: Timestamp;
}

/** Events whose processing was given up. */
export interface EventDeadLettersTable {
  tenant_id: Fixed<string>;
  /** UUIDv7: the order in which they were given up. */
  id: Fixed<string>;
  event_row: Fixed<string>;
  reason: Fixed<string>;
  attempts: Fixed<number>;
  failed_at: CreatedAt;
  /** To be processed again. */
  queued: Generated<boolean>;
}

/** Which events a transaction wrote, and how far their processing is. See ingestion/batches.ts. */
export interface EventBatchesTable {
  tenant_id: Fixed<string>;
  /** The transaction that wrote the batch. Set by the database. */
  xid: ColumnType<string, never, never>;
  /** The ids of the batch lie between these, both included; those of other batches may, too. */
  first_id: Fixed<string>;
  last_id: Fixed<string>;
  /** How many events the batch had when it was written. */
  events: Fixed<number>;
  /** Of a replay: these events and no others, which were written by other transactions. */
  event_ids: Fixed<string[] | null>;
  created_at: CreatedAt;
  attempts: Generated<number>;
  next_attempt_at: Timestamp;
  /** The worker that is at it, and until when it is believed to live. */
  claimed_by: string | null;
  claimed_until: NullableTimestamp;
  /** Why the last attempt failed. */
  error: string | null;
  processed_at: NullableTimestamp;
}

/** Recognises an event that is sent again. */
export interface EventKeysTable {
  tenant_id: Fixed<string>;
  /** Derived from the sender's id. */
  key: Fixed<string>;
  /** The event's `id`. */
  event_row: Fixed<string>;
  /** 16 bytes of a hash of `encoded`: tells a duplicate from a conflict. Null: not known, any body counts as the same. */
  digest: Fixed<string | null>;
}

/** One entry of a tenant's audit log, as AuditEntry of the contract has it. Never changed and never deleted. */
export interface AuditEntriesTable {
  tenant_id: Fixed<string>;
  /** From 1, without gaps. */
  sequence: Fixed<bigint>;
  id: Fixed<string>;
  /** Microseconds in the database; a Date keeps milliseconds only. */
  occurred_at: Fixed<Date | string>;
  actor_type: Fixed<string>;
  user_id: Fixed<string | null>;
  email: Fixed<string>;
  api_key_id: Fixed<string | null>;
  api_key_name: Fixed<string>;
  identity_provider_id: Fixed<string | null>;
  session_id: Fixed<string | null>;
  platform_admin: Fixed<boolean>;
  address: Fixed<string>;
  user_agent: Fixed<string>;
  method: Fixed<string>;
  resource_type: Fixed<string>;
  resource_id: Fixed<string>;
  outcome: Fixed<string>;
  error_reason: Fixed<string>;
  call_id: Fixed<string>;
  trace_id: Fixed<string>;
  details: ColumnType<JsonObject, string, never>;
  previous_hash: Fixed<Buffer>;
  hash: Fixed<Buffer>;
}

/** Work that one process of the installation does at a time. */
export interface LeasesTable {
  name: Fixed<string>;
  holder: string;
  /** Grows with every change of the holder. */
  fence: string;
  expires_at: Date;
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

interface UsageCounters {
  events: Generated<bigint>;
  samples: Generated<bigint>;
  active_stores: Generated<bigint>;
  active_series: Generated<bigint>;
  invocations: Generated<bigint>;
  calls: Generated<bigint>;
}

/** What a tenant used on a day, UTC, by when it was received. */
export interface UsageDaysTable extends UsageCounters {
  tenant_id: Fixed<string>;
  day: Fixed<string>;
  cost_micros: Generated<number>;
}

/** What is not yet in `usage_days`. */
export interface UsageIncrementsTable extends UsageCounters {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  day: ColumnType<string, string | undefined, never>;
}

/** Stores and series that were heard from on a day. */
export interface UsageActiveTable {
  tenant_id: Fixed<string>;
  day: Fixed<string>;
  /** Of the store or the series. */
  id: Fixed<string>;
}

/** What webhooks are to be told of. */
export interface WebhookEventsTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  type: Fixed<string>;
  data: JSONColumnType<JsonObject, string, never>;
  occurred_at: CreatedAt;
  /** Who is told whatever they subscribed to; null: nobody. */
  targets: ColumnType<DeliveryTarget[] | null, string | null | undefined, never>;
}

/** The channels of the contract. */
export type DeliveryChannel = "HTTP" | "EMAIL" | "WHATSAPP";

/** A webhook by its id, an e-mail address or a WhatsApp number. */
export interface DeliveryTarget {
  channel: DeliveryChannel;
  to: string;
}

export interface WebhooksTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  url: string;
  description: string;
  /** Single types, `alert.*` and its like, or `*`. */
  event_types: string[];
  /** WebhookFilter in ProtoJSON. */
  filter: ColumnType<JsonObject, string, string>;
  /** How long alerts are gathered; 0: not at all. */
  group_wait_ms: number;
  enabled: boolean;
  disabled_reason: Generated<"" | "BY_CALLER" | "GONE" | "FAILING">;
  disabled_at: NullableTimestamp;
  /** Sealed by the key ring, as is the one before. */
  secret: string;
  previous_secret: ColumnType<string | null, string | undefined, string | null>;
  previous_secret_expires_at: NullableTimestamp;
  last_success_at: NullableTimestamp;
  last_failure_at: NullableTimestamp;
  /** The first failure since the last success. */
  failing_since: NullableTimestamp;
  /** A user or an API key, which may be gone. */
  created_by: Fixed<string | null>;
  created_at: CreatedAt;
  updated_at: Timestamp;
  /** Grows with every change by a caller. */
  version: ColumnType<bigint, bigint | undefined, bigint>;
}

export type StoredDeliveryStatus = "PENDING" | "RETRYING" | "DELIVERED" | "FAILED" | "DISCARDED";

/** DeliveryAttempt of the contract, as it is stored. */
export type StoredAttempt = {
  /** ISO 8601. */
  startedAt: string;
  durationMs: number;
  status: number;
  body: string;
  error: string;
};

/** One message to one receiver. */
export interface DeliveriesTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  /** The webhook's id, or one derived from the channel and the address. */
  receiver: Fixed<string>;
  channel: Fixed<DeliveryChannel>;
  webhook_id: Fixed<string | null>;
  destination: string;
  message_id: Fixed<string>;
  event_type: string;
  /** The message's `{ type, timestamp, data }`. */
  payload: ColumnType<JsonObject, string, string>;
  subject_ids: string[];
  alert_rule_ids: string[];
  happenings: number;
  /** More may join it until it is due. */
  gathers: Generated<boolean>;
  status: StoredDeliveryStatus;
  attempts: ColumnType<StoredAttempt[], string | undefined, string>;
  attempt_count: Generated<number>;
  /** When it may be tried; null once it has ended. While it is being tried: when another process may take it over. */
  due_at: NullableTimestamp;
  /** Who tries it, or tried it last. */
  claim: string | null;
  created_at: ColumnType<Date, Date, never>;
  finished_at: NullableTimestamp;
  replay_of: ColumnType<string | null, string | null | undefined, never>;
  test: ColumnType<boolean, boolean | undefined, never>;
}

/** What is counted of a file. */
interface ProgressColumns {
  done: Generated<bigint>;
  warn: Generated<bigint>;
  failed: Generated<bigint>;
  /** Null: not known. */
  total: bigint | null;
  version: Generated<bigint>;
  /** Lines of late, each counting less with its age; see `progress/derive.ts`. */
  recent: Generated<number>;
  error_count: Generated<bigint>;
  warning_count: Generated<bigint>;
  updated_at: Date;
  completed_at: Date | null;
}

/** The progress of one file of one client. */
export interface ProgressFilesTable extends ProgressColumns {
  tenant_id: Fixed<string>;
  /** UUIDv7: the order in which they were made. */
  id: Fixed<string>;
  /** A hash of client and filename. */
  key: Fixed<string>;
  client_krn: Fixed<string>;
  filename: Fixed<string>;
  /** Its first 100 characters. */
  filename_start: ColumnType<string, never, never>;
  /** The creator's, in lower case; empty: an API key. */
  email: Fixed<string>;
  api_key_id: Fixed<string | null>;
  /** Of the latest change in the tenant's feed. */
  sequence: Generated<bigint>;
  /** Has line errors or failed lines. */
  has_errors: Generated<boolean>;
  /** Rows of `progress_updates` may be there. */
  has_update_ids: Generated<boolean>;
  created_at: Fixed<Date>;
}

export interface ProgressLineIssuesTable {
  tenant_id: Fixed<string>;
  file_id: Fixed<string>;
  /** LineIssueKind of the contract. */
  kind: Fixed<number>;
  line: Fixed<bigint>;
  /** UUIDv7: the order of receipt. */
  id: Fixed<string>;
  message: Fixed<string>;
  raw_line: Fixed<string>;
  reported_at: Fixed<Date>;
}

/** Recognises a report that is sent again. */
export interface ProgressUpdatesTable {
  tenant_id: Fixed<string>;
  file_id: Fixed<string>;
  /** A hash of the update id. */
  key: Fixed<string>;
  /** 16 bytes of a hash of the report. */
  digest: Fixed<Buffer>;
  received_at: Fixed<Date>;
}

/** The number of the latest change in each tenant. */
export interface ProgressFeedsTable {
  tenant_id: Fixed<string>;
  sequence: bigint;
  /** Changes up to this one are deleted. */
  pruned: Generated<bigint>;
}

/** A change of a file, with the values after it. */
export interface ProgressDeltasTable extends ProgressColumns {
  tenant_id: Fixed<string>;
  sequence: Fixed<bigint>;
  file_id: Fixed<string>;
  client_krn: Fixed<string>;
}

/** Messages of Kafka and SQS that could not be counted. Belongs to no tenant. */
export interface ProgressSetAsideTable {
  connector: Fixed<string>;
  position: Fixed<string>;
  reason: Fixed<string>;
  payload: Fixed<Buffer>;
  set_aside_at: CreatedAt;
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
