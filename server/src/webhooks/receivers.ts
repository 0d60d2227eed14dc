/**
 * How much each receiver is given at once. One that accepts quickly gets more and more, up to the bound; one that fails or
 * is slow gets one at a time, and all such together only a part of the places: however many there are, they delay nobody
 * else. In memory: every process learns for itself.
 */
import type { WaitingReceiver, Wanted } from "./claim.ts";

export interface ReceiverRules {
  readonly maxConcurrent: number;
  readonly maxConcurrentPerReceiver: number;
}

/** An attempt that takes longer makes its receiver a slow one. */
const slowMs = 3_000;
/** The part of all places that slow and failing receivers may hold together. */
const slowShare = 0.75;

/** Receivers that are remembered. */
const maxKnown = 100_000;

interface Standing {
  inFlight: number;
  allowance: number;
  isSlow: boolean;
  /** Until when it asked to be left alone. */
  pausedUntilMs: number;
}

/** How an attempt ended. */
export interface Ended {
  readonly accepted: boolean;
  /** Undefined: it was not tried. */
  readonly tookMs?: number;
  /** Until when the receiver asks to be left alone. */
  readonly pausedUntilMs?: number;
}

export interface Receivers {
  /** Says what to claim of what is due: everyone's first one before anyone's second. */
  choose(waiting: readonly WaitingReceiver[], nowMs: number): Wanted[];
  begin(receiver: string): void;
  end(receiver: string, ended: Ended): void;
  readonly inFlight: number;
}

export function createReceivers({ maxConcurrent, maxConcurrentPerReceiver }: ReceiverRules): Receivers {
  const known = new Map<string, Standing>();
  let inFlight = 0;

  const standingOf = (receiver: string): Standing =>
    known.get(receiver) ?? { inFlight: 0, allowance: 1, isSlow: false, pausedUntilMs: 0 };
  const slowInFlight = () =>
    known.values().reduce((sum, standing) => sum + (standing.isSlow ? standing.inFlight : 0), 0);

  return {
    get inFlight() {
      return inFlight;
    },
    choose(waiting, nowMs) {
      let free = maxConcurrent - inFlight;
      let freeForSlow = Math.max(1, Math.floor(maxConcurrent * slowShare)) - slowInFlight();
      const open = waiting.flatMap(({ tenantId, receiver, dueMs }) => {
        if (dueMs > nowMs) return [];
        const { isSlow, allowance, inFlight, pausedUntilMs } = standingOf(receiver);
        const room = pausedUntilMs > nowMs ? 0 : allowance - inFlight;
        return room > 0 ? [{ tenantId, receiver, room, dueMs, isSlow, limit: 0 }] : [];
      });
      open.sort((a, b) => a.dueMs - b.dueMs);
      for (let round = 1; free > 0 && round <= maxConcurrentPerReceiver; round++) {
        for (const one of open) {
          if (free === 0) break;
          if (one.room < round || (one.isSlow && freeForSlow <= 0)) continue;
          one.limit++;
          free--;
          if (one.isSlow) freeForSlow--;
        }
      }
      return open.filter(({ limit }) => limit > 0);
    },
    begin(receiver) {
      const standing = standingOf(receiver);
      standing.inFlight++;
      inFlight++;
      known.set(receiver, standing);
    },
    end(receiver, { accepted, tookMs, pausedUntilMs = 0 }) {
      const standing = standingOf(receiver);
      standing.inFlight--;
      inFlight--;
      if (tookMs !== undefined) {
        standing.isSlow = !accepted || tookMs >= slowMs;
        standing.allowance = standing.isSlow ? 1 : Math.min(standing.allowance + 1, maxConcurrentPerReceiver);
        standing.pausedUntilMs = accepted ? 0 : Math.max(standing.pausedUntilMs, pausedUntilMs);
      }
      // The longest unused one is soon known again.
      known.delete(receiver);
      known.set(receiver, standing);
      for (const [name, { inFlight }] of known) {
        if (known.size <= maxKnown || inFlight > 0) break;
        known.delete(name);
      }
    },
  };
}
