/** Samples, alerts and usage. */
import { type Prices, readPrices } from "../metrics/usage/prices.ts";
import { maxQueuedRows } from "./database.ts";
import type { Settings } from "./setting-names.ts";
import { dayMs, integer } from "./values.ts";

export interface MetricsConfig {
  /** Samples in one batch. Default 20,000. */
  readonly maxBatchSamples: number;
  /** Samples that wait for a commit; beyond, calls are refused. Default 200,000. */
  readonly maxQueuedRows: number;
  /** How far a sample may lie in the past, milliseconds. */
  readonly maxSampleAgeMs: number;
  /** How far a sample may lie in the future, milliseconds. */
  readonly maxSampleAheadMs: number;
  /** Series whose existence is remembered. */
  readonly seriesCacheSize: number;
  /** For how many days, the present one not counted, samples are kept; 0: for ever. Default 400. */
  readonly sampleRetentionDays: number;
  /** After how long the samples of a tenant are compacted though they are few, milliseconds. Default 15 minutes. */
  readonly sampleCompactionAgeMs: number;
  readonly alerts: AlertsConfig;
  readonly usage: UsageConfig;
}

export interface AlertsConfig {
  /** How long alerts are kept after they were resolved, days; 0: for ever. Default 400. */
  readonly retentionDays: number;
  /** Alert rules of a tenant. */
  readonly maxRules: number;
  /** Silences of a tenant that are not over. */
  readonly maxSilences: number;
  /** Series that a back-test reads. */
  readonly maxBacktestSeries: number;
}

export interface UsageConfig {
  /** How often a process reads what a tenant with limits used, beside what it hears of others, milliseconds. Default 1 hour. */
  readonly checkIntervalMs: number;
  /** How often a process writes the calls, stores and series that it has noted, milliseconds. Default 1 s, at most a minute. */
  readonly noteIntervalMs: number;
  /** What cost is reckoned by. Default: nothing costs anything. */
  readonly prices: Prices;
}

export function metricsConfig(env: Settings): MetricsConfig {
  return {
    maxBatchSamples: integer(env, "PULSEWIRE_MAX_BATCH_SAMPLES", 20_000, 1, 1_000_000),
    maxQueuedRows: maxQueuedRows(env),
    maxSampleAgeMs: 30 * dayMs,
    maxSampleAheadMs: dayMs,
    seriesCacheSize: 500_000,
    sampleRetentionDays: integer(env, "PULSEWIRE_SAMPLE_RETENTION_DAYS", 400, 0, 36_500),
    sampleCompactionAgeMs: integer(env, "PULSEWIRE_SAMPLE_COMPACTION_AGE", 900, 1, 86_400) * 1_000,
    alerts: {
      retentionDays: integer(env, "PULSEWIRE_ALERT_RETENTION_DAYS", 400, 0, 36_500),
      maxRules: 10_000,
      maxSilences: 10_000,
      maxBacktestSeries: 1_000,
    },
    usage: {
      checkIntervalMs: integer(env, "TENANT_LIMITS_CHECK_INTERVAL", 3_600, 1, 86_400) * 1_000,
      noteIntervalMs: integer(env, "PULSEWIRE_USAGE_INTERVAL", 1, 1, 60) * 1_000,
      prices: readPrices(env.PULSEWIRE_PRICES),
    },
  };
}
