import { Analytics } from "@segment/analytics-node";
import type { Library, LibraryOptions } from "./library.ts";

/** It has no compression, and limits a request to 480 KB. */
export function open({ url, defaults }: LibraryOptions): Library {
  const analytics = new Analytics({ writeKey: "bench", host: url, ...(!defaults && { flushAt: 1000 }) });
  let waiting = 0;
  let dropped = 0;
  let emptied: (() => void) | undefined;
  const settled = (error?: unknown) => {
    if (error) dropped++;
    if (--waiting === 0) emptied?.();
  };
  return {
    add({ type, user, session, payload }) {
      waiting++;
      analytics.track({ userId: user, event: type, properties: { session, ...payload } }, settled);
    },
    // Its own flush() ends with what is in the queue when it is called, so that this waits for each callback.
    async flush() {
      void analytics.flush({ timeout: 120_000 });
      if (waiting > 0) await new Promise<void>((resolve) => (emptied = resolve));
    },
    close: async () => {
      await analytics.closeAndFlush({ timeout: 5_000 });
    },
    dropped: () => dropped,
  };
}
