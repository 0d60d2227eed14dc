import type { Logger } from "pino";
import type { Bus } from "../bus/bus.ts";

/** Says that there are new batches, for workers. */
export const batchesChannel = "event-batches";

/** Says that the tenant has new events, for those who watch. */
export const eventsChannel = (tenantId: string): string => `events:${tenantId}`;

/** How often a channel is told at most: what comes meanwhile is told together. */
const pauseMs = 50;

/** Tells of commits, seldom enough not to be felt. Messages are hints: whoever waits for them looks by itself, too. */
export function createEventNews(bus: Bus, logger: Logger) {
  const waiting = new Set<string>();
  const tell = (channel: string) => {
    if (waiting.has(channel)) return;
    waiting.add(channel);
    setTimeout(() => {
      waiting.delete(channel);
      bus
        .publish(channel, "")
        .catch((err: unknown) => logger.debug({ err }, "new events could not be told of"));
    }, pauseMs).unref();
  };
  return {
    /** To be called after the commit. */
    committed(tenantIds: Iterable<string>): void {
      tell(batchesChannel);
      for (const tenantId of tenantIds) tell(eventsChannel(tenantId));
    },
  };
}

export type EventNews = ReturnType<typeof createEventNews>;
