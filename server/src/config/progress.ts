/** Progress of files, and where it comes from. */
import { type IntakeSettings, intakeSettings } from "../progress/intake/settings.ts";
import { maxQueuedRows } from "./database.ts";
import type { Settings } from "./setting-names.ts";
import { dayMs, integer } from "./values.ts";

export interface ProgressConfig {
  /** How long after its completion a file still takes reports with an `update_id`, milliseconds. Default 60 s. */
  readonly graceMs: number;
  /** Without a report for so long, a file counts as stalled, milliseconds. Default 5 minutes. */
  readonly stallMs: number;
  /** How far back watchers can resume, milliseconds. Default 1 hour. */
  readonly deltaRetentionMs: number;
  /** How long after its completion a file's update ids are known, milliseconds. Default 32 days, the least. */
  readonly updateIdRetentionMs: number;
  /** Streams of WatchProgress in this process. Default 100,000. */
  readonly maxWatchers: number;
  /** Reports and line issues that wait for a commit; beyond, calls are refused. Default 200,000. */
  readonly maxQueuedRows: number;
  /** Where the worker takes reports from besides the API. */
  readonly intake: IntakeSettings;
}

export function progressConfig(env: Settings): ProgressConfig {
  return {
    graceMs: integer(env, "PULSEWIRE_PROGRESS_GRACE", 60, 0, 86_400) * 1_000,
    stallMs: integer(env, "PULSEWIRE_PROGRESS_STALL", 300, 1, 30 * 86_400) * 1_000,
    deltaRetentionMs: integer(env, "PULSEWIRE_PROGRESS_DELTA_RETENTION", 3_600, 1, 30 * 86_400) * 1_000,
    updateIdRetentionMs: integer(env, "PULSEWIRE_PROGRESS_UPDATE_ID_RETENTION", 32, 32, 3_660) * dayMs,
    maxWatchers: integer(env, "PULSEWIRE_PROGRESS_WATCHERS", 100_000, 1, 10_000_000),
    maxQueuedRows: maxQueuedRows(env),
    intake: intakeSettings(env),
  };
}
