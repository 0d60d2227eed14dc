/** Events: what a call may send, what becomes of events after their commit, and how long they are kept. */
import { maxQueuedRows } from "./database.ts";
import type { Settings } from "./setting-names.ts";
import { integer, megabyte } from "./values.ts";

export interface IngestionConfig {
  /** Events in one batch. Default 1,000 (Event Processor). */
  readonly maxBatchEvents: number;
  /** Largest single event, encoded, bytes. */
  readonly maxEventBytes: number;
  /** Batches of one StreamEvents that are written at once. Default 16. */
  readonly streamWindow: number;
  /** Events that wait for a commit; beyond, calls are refused. Default 200,000. */
  readonly maxQueuedRows: number;
  /** Bytes of events that wait for a commit; beyond, calls are refused. Default 64 MiB. */
  readonly maxQueuedBytes: number;
  /** For how many days event ids are recognised when they are sent again; 33 or more, for the contract promises 32. Default 33. */
  readonly dedupeDays: number;
  /** How often a batch of events is tried whole before those that fail are given up. Default 5. */
  readonly maxAttempts: number;
  /** How long events are kept, from their receipt, in days. Default 90; 0: for ever. */
  readonly eventRetentionDays: number;
  /** How long rollups are kept, from when events happened, in days. Default 400; 0: for ever. */
  readonly rollupRetentionDays: number;
  /** For how long a cursor of WatchEvents is good, milliseconds. Default 7 days. */
  readonly watchCursorMs: number;
  /** How long analytics are answered from memory, milliseconds. */
  readonly analyticsTtlMs: number;
  /** Rollups that a process keeps for analytics, bytes. */
  readonly analyticsCacheBytes: number;
}

export function ingestionConfig(env: Settings): IngestionConfig {
  return {
    maxBatchEvents: integer(env, "PULSEWIRE_MAX_BATCH_EVENTS", 1_000, 1, 100_000),
    maxEventBytes: 256 * 1024,
    streamWindow: integer(env, "PULSEWIRE_STREAM_WINDOW", 16, 1, 1_000),
    maxQueuedRows: maxQueuedRows(env),
    maxQueuedBytes: integer(env, "PULSEWIRE_MAX_QUEUED_BYTES", 64 * megabyte, megabyte, 16_384 * megabyte),
    dedupeDays: integer(env, "PULSEWIRE_DEDUPE_DAYS", 33, 33, 3_650),
    maxAttempts: integer(env, "PULSEWIRE_EVENT_ATTEMPTS", 5, 1, 100),
    eventRetentionDays: integer(env, "PULSEWIRE_EVENT_RETENTION_DAYS", 90, 0, 36_500),
    rollupRetentionDays: integer(env, "PULSEWIRE_ROLLUP_RETENTION_DAYS", 400, 0, 36_500),
    watchCursorMs: integer(env, "PULSEWIRE_WATCH_CURSOR_HOURS", 168, 1, 8_760) * 3_600_000,
    analyticsTtlMs: 10_000,
    analyticsCacheBytes: 256 * megabyte,
  };
}
