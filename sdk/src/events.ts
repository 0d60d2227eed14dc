import { create, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  EventSchema,
  type IngestEventsRequest,
  IngestEventsRequestSchema,
  Severity,
} from "./gen/pulsewire/ingestion/v1/event_pb.js";
import { uuidv7 } from "./uuid.ts";

/** Severity in words. */
export type SeverityName = "debug" | "info" | "warning" | "error" | "critical";

/** An event as a program writes it. Lengths are in characters; the encoded event may have at most 256 KiB. */
export interface EventInput {
  /** Type, such as `user_signup`. 1 to 200. */
  eventType: string;
  /** Id that makes a repetition harmless: 1 to 200 visible ASCII characters. Default: a UUIDv7 made now. */
  eventId?: string;
  /** Short title. At most 500. */
  title?: string;
  /** Text. At most 10,000. */
  message?: string;
  /** How serious it is. Default `info`. */
  severity?: SeverityName | Severity;
  /** Where it comes from. */
  source?: { service?: string; endpoint?: string; method?: string; version?: string };
  /** Circumstances: an object that JSON can hold. */
  context?: object;
  /** Named numbers. At most 100. */
  metrics?: Record<string, number>;
  /** Labels about the event: an object that JSON can hold. */
  metadata?: object;
  /** What the event is about: an object that JSON can hold. */
  payload?: object;
  /** The user it concerns. At most 200. */
  userId?: string;
  /** The session it belongs to. At most 200. */
  sessionId?: string;
  /** When it happened: a Date or milliseconds since 1970. Default: now. */
  timestamp?: Date | number;
  /** 1 (normal) to 10 (critical). Default 1. */
  priority?: number;
}

/** An event ready to be sent: encoded once, however often it is sent. */
export interface PackedEvent {
  /** Its id. */
  id: string;
  /** The encoded event behind its length, as it stands in a request. */
  bytes: Uint8Array;
  /** 1 to 10. */
  priority: number;
}

/**
 * Encodes an event. Objects are read as JSON.stringify reads them: `undefined` is left out, a Date is a string.
 *
 * @throws TypeError or Error where a field has the wrong type, or JSON cannot hold it
 */
export function packEvent(input: EventInput): PackedEvent {
  const { eventId = uuidv7(), severity, timestamp, context, metadata, payload, ...rest } = input;
  const message = create(EventSchema, {
    ...rest,
    eventId,
    severity: typeof severity === "string" ? severities[severity] : (severity ?? Severity.UNSPECIFIED),
    timestamp: timestampFromMs(timestamp === undefined ? Date.now() : Number(timestamp)),
    ...(context && { context: toJsonObject(context) }),
    ...(metadata && { metadata: toJsonObject(metadata) }),
    ...(payload && { payload: toJsonObject(payload) }),
  });
  return {
    id: eventId,
    bytes: framer.bytes(toBinary(EventSchema, message)).finish(),
    priority: input.priority ?? 1,
  };
}

/** Used again and again, for each new one allocates a buffer; finish() leaves it empty. */
const framer = new BinaryWriter();

/** The request for a batch; with `sentAt`, so that the server can correct a clock that is wrong. */
export function toIngestRequest(events: PackedEvent[]): IngestEventsRequest {
  const request = create(IngestEventsRequestSchema, {
    allowPartial: true,
    sentAt: timestampFromMs(Date.now()),
  });
  // What is encoded is not encoded again: as unknown fields the bytes are written out as they are.
  const { number } = IngestEventsRequestSchema.field.events;
  request.$unknown = events.map(({ bytes }) => ({
    no: number,
    wireType: WireType.LengthDelimited,
    data: bytes,
  }));
  return request;
}

const severities: Record<SeverityName, Severity> = {
  debug: Severity.DEBUG,
  info: Severity.INFO,
  warning: Severity.WARNING,
  error: Severity.ERROR,
  critical: Severity.CRITICAL,
};

function toJsonObject(value: object): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject;
}
