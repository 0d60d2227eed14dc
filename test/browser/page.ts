/** What runs inside the page; the test calls it by name. */
import { Code, ConnectError, createClient as createConnectClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { createClient, PulsewireError } from "@pulsewire/sdk/web";
import { Health } from "../../server/src/gen/grpc/health/v1/health_pb.js";

export interface Target {
  endpoint: string;
  apiKey: string;
  protocol: "connect" | "grpc-web";
}

const calls = {
  /** Writes an event through the SDK and reads it back. */
  async roundTrip(target: Target, eventId: string) {
    using client = createClient(target);
    const payload = { from: "browser", words: ["grüß", "dich"] };
    const written = await client.ingestion.ingestEvent({
      event: { eventId, eventType: "page.viewed", payload },
    });
    const { event } = await client.ingestion.getEvent({ eventId });
    return {
      duplicate: written.duplicate,
      eventType: event?.event?.eventType,
      payload: event?.event?.payload,
    };
  },

  /** Sends an event that breaks a rule; what the SDK makes of the answer. */
  async refusal(target: Target) {
    using client = createClient(target);
    try {
      await client.ingestion.ingestEvent({ event: {} });
    } catch (error) {
      if (!(error instanceof PulsewireError)) throw error;
      return {
        code: Code[error.code],
        reason: error.reason,
        fields: error.violations.map(({ field }) => field),
      };
    }
    return undefined;
  },

  /** Watches the server's health, and leaves after the first message. */
  async watch({ endpoint, protocol }: Target) {
    const create = protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
    const cancel = new AbortController();
    const stream = createConnectClient(Health, create({ baseUrl: endpoint })).watch(
      {},
      { signal: cancel.signal },
    );
    const statuses: number[] = [];
    try {
      for await (const { status } of stream) {
        statuses.push(status);
        cancel.abort();
      }
    } catch (error) {
      return { statuses, end: Code[ConnectError.from(error).code] };
    }
    return { statuses, end: "the stream ended by itself" };
  },

  /** A call without any library; the headers that the page may read. */
  async plainFetch({ endpoint, apiKey }: Target) {
    const response = await fetch(`${endpoint}/pulsewire.ingestion.v1.IngestionService/ListEvents`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": apiKey, "x-request-id": "from-the-page" },
      body: "{}",
    });
    return { status: response.status, requestId: response.headers.get("x-request-id") };
  },
};

export type PageCalls = typeof calls;

declare global {
  var pulsewire: PageCalls;
}
globalThis.pulsewire = calls;
