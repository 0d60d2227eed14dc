/**
 * Spreads the calls of a minute: whoever may send many has some of them at once and the others at their rate, so that the
 * allowance of a whole minute does not come in one burst at the cost of everybody else.
 */
import { LRUCache } from "lru-cache";
import { rateWindowMs } from "./rate-windows.ts";

/** Where somebody stands after a call. */
export interface Pace {
  /** Calls that may come at once. */
  readonly burst: number;
  /** Until so many may come at once again, milliseconds. */
  readonly windowMs: number;
  /** Calls that may come at once now, after this one; below 0: this one was too many. */
  readonly left: number;
  /** Until there is room for another one, milliseconds. */
  readonly waitMs: number;
}

/** Keeps the pace in this process: it is what a process must bear. */
export interface PaceKeeper {
  /** Takes in a call, where it is not too many. Undefined: with so few calls a minute all may come at once. */
  take(name: string, callsPerMinute: number): Pace | undefined;
}

/** As many may always come at once. */
const leastBurst = 100;
/** The calls of so long a time may come at once. */
const burstMs = 5_000;

/** `maxNames` are kept at the same time; beyond, those longest unused begin anew. */
export function createPaceKeeper(maxNames: number, clock = () => performance.now()): PaceKeeper {
  /** When all that came would have come at its rate. */
  const cameAt = new LRUCache<string, number>({ max: maxNames });
  return {
    take(name, callsPerMinute) {
      const burst = Math.max(leastBurst, Math.ceil((callsPerMinute * burstMs) / rateWindowMs));
      if (callsPerMinute <= burst) return undefined;
      const everyMs = rateWindowMs / callsPerMinute;
      const now = clock();
      const next = Math.max(now, cameAt.get(name) ?? 0) + everyMs;
      const aheadMs = next - now;
      const windowMs = burst * everyMs;
      if (aheadMs > windowMs) return { burst, windowMs, left: -1, waitMs: aheadMs - windowMs };
      cameAt.set(name, next);
      const left = Math.floor((windowMs - aheadMs) / everyMs);
      return { burst, windowMs, left, waitMs: left > 0 ? 0 : aheadMs + everyMs - windowMs };
    },
  };
}
