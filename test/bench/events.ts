import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Event, EventSchema, Severity } from "../../sdk/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { uuidv7 } from "../../sdk/src/uuid.ts";

/**
 * A message that is encoded once and sent many times, each time with fresh event ids written over the old ones: so the
 * load costs next to nothing of the two cores that it shares with the server.
 */
export interface Stencil {
  /** Gives every event a new id, and returns the bytes. They may be changed once the call is answered. */
  stamp(): Buffer;
}

function stencil(bytes: Uint8Array, idsOfEvents: readonly (readonly string[])[]): Stencil {
  const buffer = Buffer.from(bytes);
  let from = 0;
  const offsets = idsOfEvents.flatMap((ids) =>
    ids.map((id) => {
      const offset = buffer.indexOf(id, from, "latin1");
      if (offset < 0) throw new Error("an id is not where it must be");
      from = offset + id.length;
      return offset;
    }),
  );
  return {
    stamp() {
      for (const offset of offsets) buffer.write(uuidv7(), offset, 36, "latin1");
      return buffer;
    },
  };
}

const { ingestEvent, ingestEvents } = IngestionService.method;

/** One event as a gRPC message in its frame. */
export function singleFrame(seed: number): Stencil {
  const event = sampleEvent(seed);
  return stencil(frame(toBinary(ingestEvent.input, create(ingestEvent.input, { event }))), [[event.eventId]]);
}

/** A batch as a gRPC message in its frame. */
export function batchFrame(seed: number, size: number): Stencil {
  const events = sampleEvents(seed, size);
  return stencil(
    frame(toBinary(ingestEvents.input, create(ingestEvents.input, { events }))),
    events.map(({ eventId }) => [eventId]),
  );
}

/** One event as the JSON of the same call. */
export function singleJson(seed: number): Stencil {
  const event = sampleEvent(seed);
  const json = toJsonString(ingestEvent.input, create(ingestEvent.input, { event }));
  return stencil(Buffer.from(json), [[event.eventId]]);
}

/** A batch as rows with a column for each searched field and JSON for the rest, in COPY's text format. */
export function batchCopyText(tenantId: string, seed: number, size: number): Stencil {
  const rows = sampleEvents(seed, size).map((event) => ({ id: uuidv7(), event }));
  const lines = rows.map(({ id, event }) => {
    const { context, message, metrics, payload, source, title } = event;
    const { service, endpoint, method, version } = source ?? {};
    const rest = {
      context,
      message,
      metrics,
      payload,
      source: { endpoint, method, service, version },
      title,
    };
    const cells = [
      tenantId,
      id,
      event.eventId,
      event.eventType,
      event.userId,
      event.sessionId,
      event.severity,
      event.priority,
      new Date().toISOString(),
      JSON.stringify(rest),
    ];
    return cells.map(copyCell).join("\t");
  });
  return stencil(
    Buffer.from(`${lines.join("\n")}\n`),
    rows.map(({ id, event }) => [id, event.eventId]),
  );
}

const escapes: Record<string, string> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };

function copyCell(value: string | number): string {
  return String(value).replace(/[\\\t\n\r]/g, (char) => escapes[char] as string);
}

/** The envelope of a gRPC message: not compressed, and its length. */
function frame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}

const sampleEvents = (seed: number, size: number) =>
  Array.from({ length: size }, (_, index) => sampleEvent(seed * size + index));

const types = ["order.created", "page.viewed", "sensor.reading", "payment.settled", "user.signed_in"];
const services = ["checkout", "catalog", "billing", "edge-gateway"];

/** An event as a gateway sends it: about 400 bytes, with two small structs. */
function sampleEvent(seed: number): Event {
  return create(EventSchema, {
    eventId: uuidv7(),
    eventType: types[seed % types.length] as string,
    title: "Request served",
    message: `request ${seed} was served`,
    severity: seed % 10 === 0 ? Severity.WARNING : Severity.INFO,
    source: {
      service: services[seed % services.length] as string,
      endpoint: `/api/v1/items/${seed % 1_000}`,
      method: "POST",
      version: "2.4.1",
    },
    context: { region: "eu-west-1", trace: (seed * 2_654_435_761).toString(16), attempt: seed % 3 },
    metrics: { duration_ms: (seed % 700) + 0.25, bytes: 512 + (seed % 4_096) },
    payload: { item: seed % 5_000, currency: "EUR", paid: seed % 2 === 0 },
    userId: `user-${seed % 10_000}`,
    sessionId: `session-${seed % 50_000}`,
    timestamp: timestampFromDate(new Date()),
    priority: (seed % 10) + 1,
  });
}
