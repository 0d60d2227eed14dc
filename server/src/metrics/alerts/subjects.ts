/** What a tenant's rules look at, in memory: rules, the series and stores they are about, and where each pair stands. */
import { type AlertRow, machineState } from "./alert-row.ts";
import type { RateWindow } from "./rate-window.ts";
import type { Rule } from "./rule.ts";
import { hasLabels } from "./silences.ts";
import { createTracker, leastLateMs, type Tracker } from "./tracker.ts";

/** A rule with what is stored beside its words. */
export interface LoadedRule extends Rule {
  readonly id: string;
  readonly updatedAtMs: number;
}

/** A series, or a store that sent no sample that a rule of absence waits for. */
export interface Subject {
  readonly id: string;
  /** The series' number in the stored samples; 0 of a store. */
  readonly ref: number;
  readonly storeId: string;
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly isCounter: boolean;
  readonly pairs: Pair[];
}

export interface Pair {
  readonly rule: LoadedRule;
  readonly subject: Subject;
  readonly tracker: Tracker;
  /** The open alert, as it is stored. */
  alert: AlertRow | undefined;
  /** A rule of absence waits for nothing of a series that was silent long before: its next sample wakes it. */
  dormant: boolean;
}

/** Whether a rule is about a series. */
export function isAbout(
  rule: LoadedRule,
  series: Pick<Subject, "storeId" | "metricName" | "labels">,
): boolean {
  const { storeId, metricName, labels } = rule.spec;
  return (
    metricName === series.metricName &&
    (storeId === "" || storeId === series.storeId) &&
    hasLabels(series.labels, labels)
  );
}

/** Whether a rule of absence also waits for the first sample of stores that never sent one. */
export function expectsEveryStore({ absenceMs, spec }: LoadedRule): boolean {
  return absenceMs !== undefined && (spec.storeId !== "" || Object.keys(spec.labels).length === 0);
}

/** The key of an alert that is open: there is one at most for a rule and a subject. */
export const pairKey = (ruleId: string, subjectId: string): string => `${ruleId}/${subjectId}`;

/** Where a pair begins. */
export interface PairStart {
  /** Samples up to this time were taken in. */
  readonly lastMs: number;
  readonly window?: RateWindow | undefined;
  readonly lateMs?: number;
  readonly alert?: AlertRow | undefined;
  readonly dormant?: boolean;
}

/** Joins a rule and a subject. */
export function addPair(rule: LoadedRule, subject: Subject, start: PairStart): Pair {
  const { lastMs, window, lateMs = leastLateMs, alert, dormant = false } = start;
  const fresh = createTracker(rule, subject.isCounter, lastMs, alert && machineState(alert));
  const tracker = { ...fresh, lateMs, window: window ?? fresh.window };
  const pair: Pair = { rule, subject, tracker, alert, dormant };
  subject.pairs.push(pair);
  return pair;
}
