/**
 * How much each receiver is given at once. One that accepts quickly gets more and more, up to the bound; one that fails or
 * is slow gets one at a time, so that however many such there are, they hold few places and delay nobody else. In memory:
 * every process learns for itself.
 */
import type { WaitingReceiver, Wanted } from "./claim.ts";

export interface ReceiverRules {
  readonly maxConcurrent: number;
  readonly maxConcurrentPerReceiver: number;
}

/** An attempt that takes longer makes its receiver a slow one. */
const slowMs = 3_000;
/** What a receiver that is not known yet is given. */
const firstAllowance = 4;

interface Standing {
  inFlight: number;
  allowance: number;
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
  const unknown = Math.min(firstAllowance, maxConcurrentPerReceiver);
  let inFlight = 0;

  const standingOf = (receiver: string): Standing =>
    known.get(receiver) ?? { inFlight: 0, allowance: unknown, pausedUntilMs: 0 };

  return {
    get inFlight() {
      return inFlight;
    },
    choose(waiting, nowMs) {
      let free = maxConcurrent - inFlight;
      const open = waiting.flatMap(({ tenantId, receiver, dueMs }) => {
        if (dueMs > nowMs) return [];
        const standing = standingOf(receiver);
        const room = standing.pausedUntilMs > nowMs ? 0 : standing.allowance - standing.inFlight;
        return room > 0 ? [{ tenantId, receiver, room, dueMs, limit: 0 }] : [];
      });
      open.sort((a, b) => a.dueMs - b.dueMs);
      for (let round = 1; free > 0 && round <= maxConcurrentPerReceiver; round++) {
        for (const one of open) {
          if (free === 0) break;
          if (one.room < round) continue;
          one.limit++;
          free--;
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
        const isQuick = accepted && tookMs < slowMs;
        standing.allowance = isQuick ? Math.min(standing.allowance + 1, maxConcurrentPerReceiver) : 1;
        standing.pausedUntilMs = Math.max(standing.pausedUntilMs, pausedUntilMs);
      }
      // One that has nothing under way and is like any other is not worth remembering.
      if (standing.inFlight === 0 && standing.allowance >= unknown && standing.pausedUntilMs === 0)
        known.delete(receiver);
    },
  };
}
