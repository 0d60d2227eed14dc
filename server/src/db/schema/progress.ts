/** Progress of files. */
import type { ColumnType, Generated } from "kysely";
import type { CreatedAt, Fixed } from "./columns.ts";

/** By name. */
export interface ProgressTables {
  progress_files: ProgressFilesTable;
  progress_line_issues: ProgressLineIssuesTable;
  progress_updates: ProgressUpdatesTable;
  progress_feeds: ProgressFeedsTable;
  progress_deltas: ProgressDeltasTable;
  progress_set_aside: ProgressSetAsideTable;
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
