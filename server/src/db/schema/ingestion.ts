/** Events, how they are found and processed, and their rollups. */
import type { ColumnType, Generated } from "kysely";
import type { CreatedAt, Fixed, NullableTimestamp, Timestamp } from "./columns.ts";

/** By name. */
export interface IngestionTables {
  events: EventsTable;
  event_keys: EventKeysTable;
  event_batches: EventBatchesTable;
  event_rollup_state: EventRollupStateTable;
  event_names: EventNamesTable;
  event_rollups: EventRollupsTable;
  event_rollup_builds: EventRollupBuildsTable;
  event_dead_letters: EventDeadLettersTable;
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
  /** The event as it was sent, as a message in canonical form, without what columns hold. See `rowToEvent`. */
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
  /** 16 bytes of a hash of the event in canonical form: tells a duplicate from a conflict. Null: not known, any body counts as the same. */
  digest: Fixed<string | null>;
}
