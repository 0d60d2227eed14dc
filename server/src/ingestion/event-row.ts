import { hash } from "node:crypto";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromDate, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Selectable } from "kysely";
import type { EventsTable } from "../db/schema.ts";
import {
  type Event,
  EventSchema,
  EventSourceSchema,
  ProcessingStatus,
  Severity,
  type StoredEvent,
  StoredEventSchema,
} from "../gen/pulsewire/ingestion/v1/event_pb.js";
import { eventKey, timeOfUuidv7 } from "./ids.ts";
import { inOrder } from "./key-order.ts";

/** An event on its way into the tables. */
export interface EventRow {
  /** Made here, in the order of receipt. */
  readonly id: string;
  /** Dedupe key, from the event id. */
  readonly key: string;
  /** 16 bytes that differ when the body does, as Latin-1: a string costs a fraction of a Buffer. */
  readonly digest: string;
  readonly eventId: string;
  readonly eventType: string;
  readonly userId: string | null;
  readonly sessionId: string | null;
  readonly severity: number;
  readonly priority: number;
  readonly occurredAt: Date;
  /** The metrics as JSON. */
  readonly metrics: string | null;
  readonly sourceService: string | null;
  /** What is never searched, as JSON. */
  readonly body: string;
}

interface EventBody {
  title?: string;
  message?: string;
  source?: { service?: string; endpoint?: string; method?: string; version?: string };
  context?: JsonObject;
  metrics?: Record<string, number>;
  metadata?: JsonObject;
  payload?: JsonObject;
}

/** Makes the row of a valid event. `skewMs` is added to the sender's clock. */
export function eventToRow(event: Event, id: string, receivedAt: Date, skewMs: number): EventRow {
  const eventId = event.eventId || id;
  const contextUser = event.context?.user_id;
  const userId = event.userId || (typeof contextUser === "string" ? contextUser.slice(0, 200) : "");
  const severity = event.severity || Severity.INFO;
  const priority = event.priority || 1;
  const fields = bodyOf(event);
  const body = JSON.stringify(fields);
  const sentTime = event.timestamp ? `${event.timestamp.seconds}.${event.timestamp.nanos}` : "";
  // The sender's own time, not the corrected one: the correction differs when the event is sent again.
  const identity = JSON.stringify([event.eventType, userId, event.sessionId, severity, priority, sentTime]);
  return {
    id,
    key: eventKey(eventId),
    digest: hash("sha256", identity + body, "binary").slice(0, 16),
    eventId,
    eventType: event.eventType,
    userId: userId || null,
    sessionId: event.sessionId || null,
    severity,
    priority,
    occurredAt: event.timestamp ? new Date(timestampMs(event.timestamp) + skewMs) : receivedAt,
    metrics: fields.metrics ? JSON.stringify(fields.metrics) : null,
    sourceService: event.source?.service || null,
    body,
  };
}

/** The fields in the order of their keys. */
function bodyOf(event: Event): EventBody {
  const { title, message, source, context, metrics, metadata, payload } = event;
  const body: EventBody = {};
  if (context) body.context = inOrder(context);
  if (message) body.message = message;
  if (metadata) body.metadata = inOrder(metadata);
  for (const _ in metrics) {
    body.metrics = inOrder(metrics);
    break;
  }
  if (payload) body.payload = inOrder(payload);
  if (source) {
    const { endpoint, method, service, version } = source;
    const named: NonNullable<EventBody["source"]> = {};
    if (endpoint) named.endpoint = endpoint;
    if (method) named.method = method;
    if (service) named.service = service;
    if (version) named.version = version;
    body.source = named;
  }
  if (title) body.title = title;
  return body;
}

/** The stored event of a row. */
export function rowToEvent(row: Selectable<EventsTable>): StoredEvent {
  const body = row.body as EventBody;
  return create(StoredEventSchema, {
    event: create(EventSchema, {
      eventId: row.event_id,
      eventType: row.event_type,
      title: body.title ?? "",
      message: body.message ?? "",
      severity: row.severity as Severity,
      ...(body.source && { source: create(EventSourceSchema, body.source) }),
      ...(body.context && { context: body.context }),
      metrics: body.metrics ?? {},
      ...(body.metadata && { metadata: body.metadata }),
      ...(body.payload && { payload: body.payload }),
      userId: row.user_id ?? "",
      sessionId: row.session_id ?? "",
      timestamp: timestampFromDate(row.occurred_at),
      priority: row.priority,
    }),
    receivedAt: timestampFromDate(timeOfUuidv7(row.id)),
    processingStatus: ProcessingStatus.QUEUED,
  });
}
