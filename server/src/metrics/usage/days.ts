/** Days and months of UTC, by which usage is counted and limited. Times in milliseconds since 1970. */

const dayMs = 86_400_000;

/** Number of the day since 1970. */
export const dayNumber = (ms: number): number => Math.floor(ms / dayMs);

/** The day as `YYYY-MM-DD`. */
export const isoDay = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** When the day after begins. */
export const nextDayMs = (ms: number): number => (dayNumber(ms) + 1) * dayMs;

/** The day that lies so many days before. */
export const daysBefore = (ms: number, days: number): string => isoDay(ms - days * dayMs);

/** When the month begins. */
export const monthStartMs = (ms: number): number => monthMs(ms, 0);

/** When the month after begins. */
export const nextMonthMs = (ms: number): number => monthMs(ms, 1);

function monthMs(ms: number, further: number): number {
  const at = new Date(ms);
  return Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + further, 1);
}
