import type { Migration } from "kysely/migration";
import * as roles from "./0001_roles.ts";
import * as auth from "./0002_auth.ts";
import * as metrics from "./0003_metrics.ts";
import * as ingestion from "./0004_ingestion.ts";
import * as partitions from "./0005_partitions.ts";
import * as sessions from "./0006_sessions.ts";
import * as emailCodes from "./0007_email_codes.ts";
import * as platform from "./0008_platform.ts";
import * as audit from "./0009_audit.ts";
import * as idempotency from "./0011_idempotency.ts";
import * as identityProviders from "./0013_identity_providers.ts";
import * as jobs from "./0014_jobs.ts";
import * as eventBatches from "./0020_event_batches.ts";
import * as eventRollups from "./0021_event_rollups.ts";
import * as eventKeys from "./0022_event_keys.ts";
import * as storeActivity from "./0030_store_activity.ts";
import * as sampleStorage from "./0031_sample_storage.ts";
import * as sampleRollups from "./0032_sample_rollups.ts";
import * as usage from "./0035_usage.ts";
import * as alerts from "./0036_alerts.ts";
import * as storeHeard from "./0037_store_heard.ts";
import * as functions from "./0040_functions.ts";
import * as webhooks from "./0045_webhooks.ts";
import * as progress from "./0050_progress.ts";
import * as progressPlain from "./0051_progress_plain.ts";
import * as rollupColumns from "./0061_rollup_columns.ts";

/**
 * All migrations in order: listed, not found in a folder, so that they survive bundling. A released one is never
 * changed. After adding one, run `node scripts/schema.ts`.
 */
export const migrations: Readonly<Record<string, Migration>> = {
  "0001_roles": roles,
  "0002_auth": auth,
  "0003_metrics": metrics,
  "0004_ingestion": ingestion,
  "0005_partitions": partitions,
  "0006_sessions": sessions,
  "0007_email_codes": emailCodes,
  "0008_platform": platform,
  "0009_audit": audit,
  "0011_idempotency": idempotency,
  "0013_identity_providers": identityProviders,
  "0014_jobs": jobs,
  "0020_event_batches": eventBatches,
  "0021_event_rollups": eventRollups,
  "0022_event_keys": eventKeys,
  "0030_store_activity": storeActivity,
  "0031_sample_storage": sampleStorage,
  "0032_sample_rollups": sampleRollups,
  "0035_usage": usage,
  "0036_alerts": alerts,
  "0037_store_heard": storeHeard,
  "0040_functions": functions,
  "0045_webhooks": webhooks,
  "0050_progress": progress,
  "0051_progress_plain": progressPlain,
  "0061_rollup_columns": rollupColumns,
};
