/** Follows one subject of one rule: a series, or a store whose samples stay away. Pure but for its own memory. */
import { dueAtMs, observe, pass, type State, type Transition } from "./machine.ts";
import { createRateWindow, type RateWindow } from "./rate-window.ts";
import type { Rule } from "./rule.ts";

export interface Tracker {
  state: State;
  /** Time of the newest sample that was taken in; of absence, at first, from when on samples are missed. */
  lastMs: number;
  readonly window: RateWindow | undefined;
}

/** @param lastMs samples up to this time are not taken in again */
export function createTracker(rule: Rule, isCounter: boolean, lastMs: number, state?: State): Tracker {
  const window = rule.windowMs === undefined ? undefined : createRateWindow(rule.windowMs, isCounter);
  return { state, lastMs, window };
}

/**
 * Takes a sample in. One that is older than the newest one comes too late and is passed over; one that is newer but older
 * than what time has brought meanwhile counts from then on. Of absence, one that is so late at `asOfMs` that another is missed
 * by then ends nothing: else each part of a backlog would end the alert and raise it anew.
 */
export function takeSample(
  rule: Rule,
  tracker: Tracker,
  atMs: number,
  value: number,
  asOfMs = atMs,
): readonly Transition[] {
  if (atMs <= tracker.lastMs) return [];
  const missed = takeTime(rule, tracker, atMs);
  tracker.lastMs = atMs;
  if (rule.absenceMs !== undefined && tracker.state && atMs + rule.absenceMs <= asOfMs) return missed;
  const judged = tracker.window ? tracker.window.add(atMs, value) : value;
  if (judged === undefined) return missed;
  const shown = rule.absenceMs === undefined ? judged : undefined;
  const step = observe(rule, tracker.state, { atMs, verdict: rule.judge(judged), value: shown });
  tracker.state = step.state;
  return missed.length > 0 ? [...missed, ...step.transitions] : step.transitions;
}

/** Lets time pass until `untilMs`, inclusive: of absence that samples are missed, and what only has to wait. */
export function takeTime(rule: Rule, tracker: Tracker, untilMs: number): readonly Transition[] {
  const { absenceMs } = rule;
  const missedAtMs = absenceMs === undefined ? Number.POSITIVE_INFINITY : tracker.lastMs + absenceMs;
  if (missedAtMs > untilMs) {
    if (!tracker.state) return [];
    const step = pass(rule, tracker.state, untilMs);
    tracker.state = step.state;
    return step.transitions;
  }
  const seen = observe(rule, tracker.state, { atMs: missedAtMs, verdict: "holds" });
  const after = pass(rule, seen.state, untilMs);
  tracker.state = after.state;
  return [...seen.transitions, ...after.transitions];
}

/** When time alone changes something next; Infinity: never. */
export function nextDueMs(rule: Rule, tracker: Tracker): number {
  const due = dueAtMs(rule, tracker.state) ?? Number.POSITIVE_INFINITY;
  const { absenceMs } = rule;
  const holds = tracker.state !== undefined && tracker.state.phase !== "recovering";
  return absenceMs === undefined || holds ? due : Math.min(due, tracker.lastMs + absenceMs);
}
