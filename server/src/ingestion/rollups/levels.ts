/**
 * The periods of rollups. Minutes are what events are folded into. The longer ones are made of them, for reading only: each is
 * there or is not, and where it is, it is right; whoever changes a minute deletes, in the same transaction, the longer
 * periods around it and asks for them to be built anew.
 */

const minuteMs = 60_000;

/** Lengths in milliseconds; each divides the next, and all divide days of UTC. */
export const levelMs: readonly number[] = [
  minuteMs,
  15 * minuteMs,
  60 * minuteMs,
  240 * minuteMs,
  1_440 * minuteMs,
];

/** The start of the period around a time. */
export function bucketOf(level: number, timeMs: number): number {
  const length = levelMs[level] as number;
  return Math.floor(timeMs / length) * length;
}

/** How long after its end a period is made: events are still on their way. */
const graceMs = 20_000;
/** How soon it is made again after late events: more of them may follow. */
const rebuildMs = 5_000;

/** When a period whose minutes have just changed is to be made. */
export function buildDueAt(level: number, bucket: number, nowMs: number): number {
  return Math.max(bucket + (levelMs[level] as number) + graceMs, nowMs + rebuildMs);
}
