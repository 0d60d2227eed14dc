/**
 * The life of an alert, as one pure function of what is observed: the same for the evaluation of live samples and for back-tests.
 *
 *   inactive → pending → firing ⇄ acknowledged
 *                 ↓         ↓↑        ↓↑
 *              resolved    recovering → resolved
 *
 * An alert passes through every state on its way, also where `for` or `recovery_for` is zero. Times are milliseconds since 1970.
 */

export const openPhases = ["pending", "firing", "acknowledged", "recovering"] as const;
export type OpenPhase = (typeof openPhases)[number];
/** `inactive` is where an alert comes from, `resolved` where it ends. */
export type Phase = "inactive" | OpenPhase | "resolved";

/** An alert that is open. */
export interface OpenState {
  readonly phase: OpenPhase;
  /** When the condition began to hold. */
  readonly startedAtMs: number;
  /** When it came into its phase. */
  readonly sinceMs: number;
  /** When it fired first. */
  readonly firedAtMs?: number | undefined;
  /** Acknowledged: until when; Infinity: until it is resolved. */
  readonly quietUntilMs?: number | undefined;
  /** Recovering: where it goes back to. */
  readonly beforeRecovery?: "firing" | "acknowledged" | undefined;
}

/** Undefined: no alert. */
export type State = OpenState | undefined;

export interface Timing {
  /** How long the condition must hold. */
  readonly forMs: number;
  /** How long it must not hold. */
  readonly recoveryForMs: number;
}

/** What a value says: the condition holds, it is over, or neither, between the threshold and the recovery threshold. */
export type Verdict = "holds" | "between" | "over";

export interface Observation {
  readonly atMs: number;
  readonly verdict: Verdict;
  /** The value; undefined for absence. */
  readonly value?: number | undefined;
}

export interface Transition {
  readonly atMs: number;
  readonly from: Phase;
  readonly to: Phase;
  readonly value?: number | undefined;
  /** The state after it. */
  readonly state: State;
}

export interface Step {
  readonly state: State;
  /** In the order of their times. */
  readonly transitions: readonly Transition[];
}

/** When time alone changes the state next; undefined: never. */
export function dueAtMs({ forMs, recoveryForMs }: Timing, state: State): number | undefined {
  switch (state?.phase) {
    case "pending":
      return state.startedAtMs + forMs;
    case "acknowledged":
      return Number.isFinite(state.quietUntilMs) ? state.quietUntilMs : undefined;
    case "recovering":
      return state.sinceMs + recoveryForMs;
    default:
      return undefined;
  }
}

/** Lets time pass until `untilMs`, inclusive. */
export function pass(timing: Timing, state: State, untilMs: number, value?: number): Step {
  const transitions: Transition[] = [];
  let now = state;
  for (
    let due = dueAtMs(timing, now);
    now && due !== undefined && due <= untilMs;
    due = dueAtMs(timing, now)
  ) {
    const atMs = Math.max(due, now.sinceMs);
    const next = afterTime(timing, now, atMs);
    transitions.push(transition(now, next, atMs, value));
    now = next;
  }
  return { state: now, transitions };
}

/** Takes an observation in: first what time brought until then, then what was seen, then what follows from it at once. */
export function observe(timing: Timing, state: State, { atMs, verdict, value }: Observation): Step {
  const before = pass(timing, state, atMs, value);
  // What is told of the past comes too late to change it: it counts from now on.
  const at = Math.max(atMs, before.state?.sinceMs ?? atMs);
  const next = afterVerdict(before.state, verdict, at);
  if (next === before.state) return before;
  const seen = transition(before.state, next, at, value);
  const after = pass(timing, next, at, value);
  return { state: after.state, transitions: [...before.transitions, seen, ...after.transitions] };
}

/** Somebody is at it until `untilMs`. Undefined where it is too late: the alert recovers, or is over. */
export function acknowledge(timing: Timing, state: State, atMs: number, untilMs: number): Step | undefined {
  const before = pass(timing, state, atMs);
  const now = before.state;
  if (!now || now.phase === "recovering") return undefined;
  const at = Math.max(atMs, now.sinceMs);
  const next: OpenState = { ...now, phase: "acknowledged", sinceMs: at, quietUntilMs: untilMs };
  return { state: next, transitions: [...before.transitions, transition(now, next, at)] };
}

/** The rule is gone or disabled. */
export function close(timing: Timing, state: State, atMs: number): Step {
  const before = pass(timing, state, atMs);
  if (!before.state) return before;
  const at = Math.max(atMs, before.state.sinceMs);
  return { state: undefined, transitions: [...before.transitions, transition(before.state, undefined, at)] };
}

function afterTime({ forMs }: Timing, state: OpenState, atMs: number): State {
  switch (state.phase) {
    case "pending":
      return fire(state, atMs);
    case "acknowledged":
      // One that was acknowledged while it was pending goes on waiting, if it still has to.
      return state.startedAtMs + forMs > atMs
        ? { ...state, phase: "pending", sinceMs: atMs, quietUntilMs: undefined }
        : fire(state, atMs);
    default:
      return undefined;
  }
}

function afterVerdict(state: State, verdict: Verdict, atMs: number): State {
  if (!state) return verdict === "holds" ? { phase: "pending", startedAtMs: atMs, sinceMs: atMs } : undefined;
  switch (state.phase) {
    case "pending":
      return verdict === "holds" ? state : undefined;
    case "recovering":
      return verdict === "holds" ? relapse(state, atMs) : state;
    default:
      return verdict === "over"
        ? { ...state, phase: "recovering", sinceMs: atMs, beforeRecovery: state.phase }
        : state;
  }
}

function relapse(state: OpenState, atMs: number): OpenState {
  const quiet = state.beforeRecovery === "acknowledged" && (state.quietUntilMs ?? 0) > atMs;
  return quiet
    ? { ...state, phase: "acknowledged", sinceMs: atMs, beforeRecovery: undefined }
    : fire(state, atMs);
}

function fire(state: OpenState, atMs: number): OpenState {
  const { startedAtMs, firedAtMs = atMs } = state;
  return { phase: "firing", startedAtMs, sinceMs: atMs, firedAtMs };
}

function transition(from: State, to: State, atMs: number, value?: number): Transition {
  return {
    atMs,
    from: from?.phase ?? "inactive",
    to: to?.phase ?? "resolved",
    value,
    state: to,
  };
}
