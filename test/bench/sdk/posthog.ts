import { PostHog } from "posthog-node";
import type { Library, LibraryOptions } from "./library.ts";

export function open({ url, gzip, defaults, queue = 250_000 }: LibraryOptions): Library {
  const client = new PostHog("phc_bench", {
    host: url,
    disableCompression: !gzip,
    ...(!defaults && { flushAt: 1000, maxBatchSize: 1000, maxQueueSize: queue }),
  });
  client.on("error", () => {});
  return {
    add({ type, user, session, payload }) {
      client.capture({ distinctId: user, event: type, properties: { session, ...payload } });
    },
    flush: () => client.flush(),
    close: () => client.shutdown(),
  };
}
