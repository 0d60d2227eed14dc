import { dayNumber, isoDay } from "./days.ts";
import type { UsageDay } from "./store.ts";

/** Where totals are told after they were folded: {@link UsageTotals} in JSON. */
export const usageChannel = "usage";

/** What limits need to know of a tenant's usage. */
export interface UsageTotals {
  readonly tenantId: string;
  /** Number of the day that `events` and `samples` are of. */
  readonly day: number;
  readonly events: number;
  readonly samples: number;
  /** Of the month that the day is in. */
  readonly costMicros: number;
}

/** Sums of the days of this month, as `readUsage` gives them. */
export function totalsOf(tenantId: string, days: readonly UsageDay[], nowMs: number): UsageTotals {
  const today = days.find(({ day }) => day === isoDay(nowMs));
  return {
    tenantId,
    day: dayNumber(nowMs),
    events: Number(today?.events ?? 0n),
    samples: Number(today?.samples ?? 0n),
    costMicros: days.reduce((sum, { cost_micros }) => sum + cost_micros, 0),
  };
}
