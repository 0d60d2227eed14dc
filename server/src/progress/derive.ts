/** What follows from the counts of a file and their times: lines a second, percentage, when it will be done, whether it stands still. */

/** The counts of a file at some time. */
export interface Counted {
  readonly done: bigint;
  readonly warn: bigint;
  readonly failed: bigint;
  readonly total: bigint | null;
  /** Lines of late, each counting less with its age, as of `updatedAt`. */
  readonly recent: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly completedAt: Date | null;
}

/** What is derived from it. */
export interface Derived {
  /** Lines a second. */
  readonly rate: number;
  /** 0 to 100; undefined where the total is not known. */
  readonly percentage: number | undefined;
  readonly eta: Date | undefined;
  readonly stallsAt: Date | undefined;
}

/** A line counts e times less after this time: the rate is that of the last minute or so. */
const memoryMs = 60_000;
/** Before, a rate would be that of an instant. */
const minAgeMs = 1_000;
/** A later end is none that anybody plans with. */
const maxEtaMs = 10 * 366 * 86_400_000;

/** `recent` at a later time, when so many more lines were counted. */
export function recentAfter(recent: number, elapsedMs: number, lines: number): number {
  return recent * Math.exp(-Math.max(0, elapsedMs) / memoryMs) + lines;
}

/** Derives what there is to say at `now`. */
export function derive(file: Counted, now: Date, stallMs: number): Derived {
  const { total, createdAt, updatedAt, completedAt } = file;
  const counted = Number(file.done + file.warn + file.failed);
  if (completedAt) {
    const tookMs = Math.max(minAgeMs, completedAt.getTime() - createdAt.getTime());
    return { rate: (counted * 1_000) / tookMs, percentage: 100, eta: undefined, stallsAt: undefined };
  }
  const rate = rateOf(recentAfter(file.recent, now.getTime() - updatedAt.getTime(), 0), createdAt, now);
  const stallsAt = new Date(updatedAt.getTime() + stallMs);
  const left = total === null ? 0 : Number(total) - counted;
  const leftMs = (left * 1_000) / rate;
  const known = left > 0 && rate > 0 && leftMs < maxEtaMs && now < stallsAt;
  return {
    rate,
    percentage: total === null ? undefined : percentageOf(counted, Number(total)),
    eta: known ? new Date(now.getTime() + leftMs) : undefined,
    stallsAt,
  };
}

/** Lines a second: the lines of late by the time that they stand for, which is shorter for a young file. */
export function rateOf(recent: number, createdAt: Date, now: Date): number {
  const ageMs = Math.max(minAgeMs, now.getTime() - createdAt.getTime());
  return (recent * 1_000) / (memoryMs * -Math.expm1(-ageMs / memoryMs));
}

function percentageOf(counted: number, total: number): number {
  return total === 0 ? 0 : Math.min(100, (counted * 100) / total);
}
