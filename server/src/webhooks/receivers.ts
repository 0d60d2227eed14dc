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

/** So much more than it may be given at once is claimed for a receiver that takes all it can get. */
const claimAhead = 8;

interface Standing {
  /** Claimed and not recorded yet. */
  claimed: number;
  /** Being tried. */
  active: number;
  /** How many may be tried at once. */
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
  /** One was claimed. */
  claim(receiver: string): void;
  /** Whether another attempt may begin; if so, it counts. */
  start(receiver: string): boolean;
  /** An attempt has ended. */
  end(receiver: string, ended: Ended): void;
  /** What was claimed is recorded or given back. */
  release(receiver: string): void;
  /** Whether the receiver fails or is slow, so that nothing is to wait for it here. */
  isSlow(receiver: string): boolean;
  /** Claimed and not recorded, for all receivers. */
  readonly claimed: number;
}

export function createReceivers({ maxConcurrent, maxConcurrentPerReceiver }: ReceiverRules): Receivers {
  const known = new Map<string, Standing>();
  let claimed = 0;

  const standingOf = (receiver: string): Standing =>
    known.get(receiver) ?? { claimed: 0, active: 0, allowance: 1, isSlow: false, pausedUntilMs: 0 };
  const claimedBySlow = () =>
    known.values().reduce((sum, standing) => sum + (standing.isSlow ? standing.claimed : 0), 0);

  return {
    get claimed() {
      return claimed;
    },
    choose(waiting, nowMs) {
      let free = maxConcurrent - claimed;
      let freeForSlow = Math.max(1, Math.floor(maxConcurrent * slowShare)) - claimedBySlow();
      const open = waiting.flatMap(({ tenantId, receiver, dueMs }) => {
        if (dueMs > nowMs) return [];
        const { isSlow, allowance, claimed, pausedUntilMs } = standingOf(receiver);
        const most = allowance === maxConcurrentPerReceiver ? allowance * claimAhead : allowance;
        const room = pausedUntilMs > nowMs ? 0 : most - claimed;
        return room > 0 ? [{ tenantId, receiver, room, dueMs, isSlow, limit: 0 }] : [];
      });
      open.sort((a, b) => a.dueMs - b.dueMs);
      for (let round = 1, given = true; free > 0 && given; round++) {
        given = false;
        for (const one of open) {
          if (free === 0) break;
          if (one.room < round || (one.isSlow && freeForSlow <= 0)) continue;
          given = true;
          one.limit++;
          free--;
          if (one.isSlow) freeForSlow--;
        }
      }
      return open.filter(({ limit }) => limit > 0);
    },
    claim(receiver) {
      const standing = standingOf(receiver);
      standing.claimed++;
      claimed++;
      known.set(receiver, standing);
    },
    start(receiver) {
      const standing = standingOf(receiver);
      if (standing.active >= standing.allowance) return false;
      standing.active++;
      return true;
    },
    end(receiver, { accepted, tookMs, pausedUntilMs = 0 }) {
      const standing = standingOf(receiver);
      standing.active--;
      if (tookMs === undefined) return;
      standing.isSlow = !accepted || tookMs >= slowMs;
      standing.allowance = standing.isSlow ? 1 : Math.min(standing.allowance + 1, maxConcurrentPerReceiver);
      standing.pausedUntilMs = accepted ? 0 : Math.max(standing.pausedUntilMs, pausedUntilMs);
    },
    release(receiver) {
      const standing = standingOf(receiver);
      standing.claimed--;
      claimed--;
      // The longest unused one is soon known again.
      known.delete(receiver);
      known.set(receiver, standing);
      for (const [name, { claimed }] of known) {
        if (known.size <= maxKnown || claimed > 0) break;
        known.delete(name);
      }
    },
    isSlow: (receiver) => standingOf(receiver).isSlow,
  };
}
