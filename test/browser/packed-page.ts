/** A page of an app that uses the published package; the test calls it by name. */
import { createClient, createGateway, follow, PulsewireError } from "@pulsewire/sdk";

export interface PackedTarget {
  endpoint: string;
  apiKey: string;
}

const watched: string[] = [];
const breaks: string[] = [];

const calls = {
  /** A unary call. */
  async me(target: PackedTarget) {
    using client = createClient(target);
    const { tenant } = await client.auth.getMe({});
    return tenant?.slug;
  },

  /** A unary call that is refused. */
  async refusal(target: PackedTarget) {
    using client = createClient(target);
    try {
      await client.metrics.getStore({ storeId: "nonsense" });
      return "";
    } catch (error) {
      return error instanceof PulsewireError ? error.reason : String(error);
    }
  },

  /** Events through the gateway of the browser. */
  async send(target: PackedTarget, eventType: string, count: number) {
    await using gateway = createGateway(target);
    for (let n = 0; n < count; n++)
      gateway.event({ eventType, eventId: `${eventType}-${n}`, payload: { n } });
    const { accepted, pending } = await gateway.flush();
    return { accepted, pending };
  },

  /** Begins to watch and answers when the stream is there. */
  watch(target: PackedTarget, eventType: string): Promise<void> {
    const client = createClient(target);
    const begun = Promise.withResolvers<void>();
    const read = async () => {
      const options = {
        retry: { maxDelayMs: 200 },
        onBreak: ({ error }: { error: Error }) => void breaks.push(error.message),
      };
      const filter = { eventTypes: [eventType] };
      for await (const { events } of follow(client.ingestion.watchEvents, { filter }, options)) {
        begun.resolve();
        for (const { event } of events) watched.push(event?.eventId ?? "");
      }
    };
    read().catch(begun.reject);
    return begun.promise;
  },

  watched: () => ({ watched, breaks }),
};

export type PackedPageCalls = typeof calls;

declare global {
  var packed: PackedPageCalls;
}
globalThis.packed = calls;
