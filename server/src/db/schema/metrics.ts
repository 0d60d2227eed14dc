/** Stores, series and samples, and what tenants use. */
import type { ColumnType, Generated, GeneratedAlways } from "kysely";
import type { CreatedAt, Fixed, Labels, Timestamp } from "./columns.ts";

/** By name. */
export interface MetricsTables {
  stores: StoresTable;
  store_activity: StoreActivityTable;
  series: SeriesTable;
  sample_batches: SampleBatchesTable;
  sample_blocks: SampleBlocksTable;
  deleted_series: DeletedSeriesTable;
  usage_days: UsageDaysTable;
  usage_increments: UsageIncrementsTable;
  usage_active: UsageActiveTable;
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
