/** Follows one subject of one rule: a series, or a store whose samples stay away. Pure but for its own memory. */
import { dueAtMs, observe, pass, type State, type Transition } from "./machine.ts";
import { createRateWindow, type RateWindow } from "./rate-window.ts";
import type { Rule } from "./rule.ts";

export interface Tracker {
  state: State;
  /** Time of the newest sample that was taken in; of absence, at first, from when on samples are missed. */
  lastMs: number;
  /** Of absence: how late samples come, as far as is known. So much later another one is missed. */
  lateMs: number;
  readonly window: RateWindow | undefined;
}

/** So late samples may come to a live evaluation in any case: they are committed, and evaluated after a pause. */
export const leastLateMs = 1_000;

/** @param lastMs samples up to this time are not taken in again */
export function createTracker(rule: Rule, isCounter: boolean, lastMs: number, state?: State): Tracker {
  const window = rule.windowMs === undefined ? undefined : createRateWindow(rule.windowMs, isCounter);
  return { state, lastMs, lateMs: 0, window };
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
  const missed = passTime(rule, tracker, atMs, missedFromMs(rule, tracker.lastMs, 0));
  tracker.lastMs = atMs;
  if (tracker.state && missedFromMs(rule, atMs, graceMs(rule, tracker)) <= asOfMs) return missed;
  const judged = tracker.window ? tracker.window.add(atMs, value) : value;
  if (judged === undefined) return missed;
  const shown = rule.absenceMs === undefined ? judged : undefined;
  const step = observe(rule, tracker.state, { atMs, verdict: rule.judge(judged), value: shown });
  tracker.state = step.state;
  return missed.length > 0 ? [...missed, ...step.transitions] : step.transitions;
}

/**
 * A sample came so late: the next may do so as well, and is not missed before. What comes later than the rule waits is a
 * backlog, which tells nothing of the next.
 */
export function noteLateness(rule: Rule, tracker: Tracker, lateMs: number): void {
  if (rule.absenceMs === undefined || lateMs > rule.absenceMs) return;
  const more = lateMs - tracker.lateMs;
  tracker.lateMs = Math.max(leastLateMs, tracker.lateMs + (more > 0 ? more : more / 8));
}

/**
 * Lets time pass until `untilMs`, inclusive: of absence that samples are missed, and what only has to wait. What is missed is
 * found later than it was due, by as much as samples come late, and counts from when it was due.
 */
export function takeTime(rule: Rule, tracker: Tracker, untilMs: number): readonly Transition[] {
  const missedMs = missedFromMs(rule, tracker.lastMs, graceMs(rule, tracker));
  const passedMs = missedMs > untilMs ? Math.min(untilMs, knownUntilMs(rule, tracker)) : untilMs;
  return passTime(rule, tracker, passedMs, missedMs);
}

function passTime(rule: Rule, tracker: Tracker, untilMs: number, missedMs: number): readonly Transition[] {
  if (missedMs > untilMs) {
    if (!tracker.state) return [];
    const step = pass(rule, tracker.state, untilMs);
    tracker.state = step.state;
    return step.transitions;
  }
  const atMs = tracker.lastMs + (rule.absenceMs ?? 0);
  const seen = observe(rule, tracker.state, { atMs, verdict: "holds" });
  const after = pass(rule, seen.state, untilMs);
  tracker.state = after.state;
  return [...seen.transitions, ...after.transitions];
}

/** When time alone changes something next; Infinity: never. */
export function nextDueMs(rule: Rule, tracker: Tracker): number {
  const due = dueAtMs(rule, tracker.state) ?? Number.POSITIVE_INFINITY;
  const holds = tracker.state !== undefined && tracker.state.phase !== "recovering";
  if (holds) return due;
  const missedMs = missedFromMs(rule, tracker.lastMs, graceMs(rule, tracker));
  return due > knownUntilMs(rule, tracker) ? missedMs : Math.min(due, missedMs);
}

/** An alert that recovers is not over while the next sample may be missing already. */
function knownUntilMs({ absenceMs }: Rule, { state, lastMs }: Tracker): number {
  return absenceMs === undefined || state?.phase !== "recovering"
    ? Number.POSITIVE_INFINITY
    : lastMs + absenceMs;
}

/** From which millisecond on a sample is missed: one that comes just when it is due is not. Infinity: none is waited for. */
function missedFromMs({ absenceMs }: Rule, lastMs: number, graceMs: number): number {
  return absenceMs === undefined ? Number.POSITIVE_INFINITY : Math.floor(lastMs + absenceMs + graceMs) + 1;
}

function graceMs({ absenceMs = 0 }: Rule, { lateMs }: Tracker): number {
  return Math.min(lateMs, absenceMs);
}
