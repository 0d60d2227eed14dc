/** Reads the requests of IngestEvent and IngestEvents straight from their bytes. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import {
  type Event,
  EventSchema,
  type IngestEventRequest,
  IngestEventRequestSchema,
  type IngestEventsRequest,
  IngestEventsRequestSchema,
} from "../gen/pulsewire/ingestion/v1/event_pb.js";
import { markValidated } from "../rpc/validate.ts";
import { illFormedFields } from "../rpc/well-formed.ts";
import { type EventRow, slot } from "./event-row.ts";
import type { EventReader } from "./read-event.ts";

/** IngestEventRequest with its event as a row. Read as a message it is the usual one. */
export class ScannedEvent implements IngestEventRequest {
  readonly $typeName = IngestEventRequestSchema.typeName;
  readonly rows: readonly EventRow[];
  readonly sentAt?: Timestamp;

  constructor({ rows, sentAt }: Request) {
    this.rows = rows;
    if (sentAt) this.sentAt = sentAt;
    markValidated(this);
  }
  get event(): Event {
    return eventOf(this.rows[0] as EventRow);
  }
}

/** IngestEventsRequest with its events as rows. Read as a message it is the usual one. */
export class ScannedEvents implements IngestEventsRequest {
  readonly $typeName = IngestEventsRequestSchema.typeName;
  readonly rows: readonly EventRow[];
  readonly allowPartial: boolean;
  readonly omitIfAllAccepted: boolean;
  readonly sentAt?: Timestamp;

  constructor({ rows, allowPartial, omitIfAllAccepted, sentAt }: Request) {
    this.rows = rows;
    this.allowPartial = allowPartial;
    this.omitIfAllAccepted = omitIfAllAccepted;
    if (sentAt) this.sentAt = sentAt;
    markValidated(this);
  }
  get events(): Event[] {
    return this.rows.map(eventOf);
  }
}

/** A batch that came while there was no room for any; it has not been read, for that would take the time of others. */
export class UnreadEvents implements IngestEventsRequest {
  readonly $typeName = IngestEventsRequestSchema.typeName;
  readonly events: Event[] = [];
  readonly allowPartial = false;
  readonly omitIfAllAccepted = false;

  constructor() {
    markValidated(this);
  }
}

function eventOf(row: EventRow): Event {
  return fromBinary(EventSchema, row.part(slot.event));
}

interface Request {
  readonly rows: EventRow[];
  allowPartial: boolean;
  omitIfAllAccepted: boolean;
  sentAt: Timestamp | undefined;
}

/** The decoders of both methods. They throw for requests that are unusual or broken, which are read the usual way. */
export function requestDecoders(reader: EventReader) {
  return {
    ingestEvent: (bytes: Uint8Array) => {
      const request = readRequest(bytes, reader, 0x12);
      // A broken event is explained the usual way, too.
      if (request.rows.length > 1 || request.rows[0]?.violations) throw undecided();
      return new ScannedEvent(request);
    },
    ingestEvents: (bytes: Uint8Array) => new ScannedEvents(readRequest(bytes, reader, 0x1a)),
  };
}

const undecided = () => new Error("to be read the usual way");

const eventTag = 0x0a;
const allowPartialTag = 0x10;
const omitIfAllAcceptedTag = 0x20;

/** Both requests have their events in field 1; `sentAtTag` tells the others apart. */
function readRequest(bytes: Uint8Array, reader: EventReader, sentAtTag: number): Request {
  const request: Request = { rows: [], allowPartial: false, omitIfAllAccepted: false, sentAt: undefined };
  let at = 0;
  while (at < bytes.length) {
    const tag = bytes[at++];
    if (tag === allowPartialTag && bytes[at++] === 1) {
      request.allowPartial = true;
      continue;
    }
    if (tag === omitIfAllAcceptedTag && bytes[at++] === 1) {
      request.omitIfAllAccepted = true;
      continue;
    }
    if (tag !== eventTag && tag !== sentAtTag) throw undecided();
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined || shift > 21) throw undecided();
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    const end = at + length;
    if (end > bytes.length) throw undecided();
    if (tag === eventTag) request.rows.push(reader.ofBytes(bytes, at, end));
    else request.sentAt = readSentAt(bytes.subarray(at, end), request.sentAt);
    at = end;
  }
  if (request.rows.length === 0) throw undecided();
  return request;
}

function readSentAt(bytes: Uint8Array, before: Timestamp | undefined): Timestamp {
  const sentAt = fromBinary(TimestampSchema, bytes);
  const broken = illFormedFields(IngestEventRequestSchema, {
    $typeName: IngestEventRequestSchema.typeName,
    sentAt,
  });
  if (before || broken.length > 0) throw undecided();
  return sentAt;
}
