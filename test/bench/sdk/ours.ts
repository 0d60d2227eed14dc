import type * as Sdk from "../../../sdk/src/index.ts";
import { builtSdk } from "./build.ts";
import type { Library, LibraryOptions } from "./library.ts";

export async function open(options: LibraryOptions): Promise<Library> {
  const { createGateway } = (await import(builtSdk)) as typeof Sdk;
  const { grpcUrl: endpoint, apiKey = "evp_bench", gzip, spool, defaults, queue, onSignal } = options;
  const gateway = createGateway({
    endpoint,
    apiKey,
    closeOnExit: onSignal ?? false,
    compression: gzip ? "gzip" : "none",
    ...(spool && { spool: { directory: spool } }),
    ...(!defaults && {
      batch: { maxItems: 2000 },
      maxInFlight: 4,
      // It alone can hold back who sends faster than the line takes.
      ...(queue
        ? { queue: { maxItems: queue, maxBytes: 1 << 30 } }
        : { queue: { maxItems: 20_000 }, whenFull: "wait" }),
    }),
  });
  return {
    add({ type, user, session, payload }) {
      return gateway.event({ eventType: type, userId: user, sessionId: session, payload });
    },
    async flush() {
      await gateway.flush();
    },
    async close() {
      await gateway.close();
    },
    dropped: () => Object.values(gateway.counts.dropped).reduce((sum, count) => sum + count, 0),
  };
}
