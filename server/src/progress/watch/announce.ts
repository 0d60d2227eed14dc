import type { Logger } from "pino";
import type { Bus } from "../../bus/bus.ts";
import { feedChannel } from "./feed.ts";

/**
 * The shortest time between two messages about one tenant: what comes meanwhile is told by the next. Watchers of other processes
 * wait no longer than that, and each message costs as much as tens of reports.
 */
const pauseMs = 25;

/** Tells other processes how far feeds have gone. Nothing is lost with a message: they look for themselves, too. */
export interface Announcer {
  announce(tenantId: string, sequence: bigint): void;
  close(): void;
}

export function createAnnouncer(bus: Bus, logger: Logger): Announcer {
  /** The number that is to be told next; undefined: nothing new since the last message. */
  const waiting = new Map<string, bigint | undefined>();
  const timers = new Set<NodeJS.Timeout>();

  const publish = (tenantId: string, sequence: bigint) => {
    waiting.set(tenantId, undefined);
    bus.publish(feedChannel(tenantId), String(sequence)).catch((err: unknown) => {
      logger.debug(
        { err, tenantId },
        "a change of progress was not announced; watchers find it a little later",
      );
    });
    const timer = setTimeout(() => {
      timers.delete(timer);
      const next = waiting.get(tenantId);
      waiting.delete(tenantId);
      if (next !== undefined) publish(tenantId, next);
    }, pauseMs);
    timers.add(timer);
  };
  return {
    announce(tenantId, sequence) {
      if (waiting.has(tenantId)) waiting.set(tenantId, sequence);
      else publish(tenantId, sequence);
    },
    close() {
      for (const timer of timers) clearTimeout(timer);
    },
  };
}
