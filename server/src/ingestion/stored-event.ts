import { create, fromBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Selectable } from "kysely";
import type { EventsTable } from "../db/schema/ingestion.ts";
import {
  EventSchema,
  ProcessingStatus,
  type Severity,
  type StoredEvent,
  StoredEventSchema,
} from "../gen/pulsewire/ingestion/v1/event_pb.js";
import { timeOfUuidv7 } from "./ids.ts";

/**
 * The stored event of a row: as it was sent, with what was left out filled in and its clock corrected. What has a column is read
 * from there; rows that were written before hold it in `encoded`, too.
 */
export function rowToEvent(row: Selectable<EventsTable>): StoredEvent {
  const event = fromBinary(EventSchema, row.encoded);
  const happenedAtMs = row.occurred_at.getTime();
  // The sender's time may be finer than a millisecond: it stands where it was not corrected.
  const skewMs = event.timestamp ? happenedAtMs - timestampMs(event.timestamp) : 0;
  if (!event.timestamp || skewMs !== 0) event.timestamp = timestampFromDate(row.occurred_at);
  event.eventId = row.event_id;
  event.eventType = row.event_type;
  if (row.metrics) event.metrics = row.metrics;
  event.userId = row.user_id ?? "";
  event.sessionId = row.session_id ?? "";
  event.severity = row.severity as Severity;
  event.priority = row.priority;
  return create(StoredEventSchema, {
    event,
    receivedAt: timestampFromDate(timeOfUuidv7(row.id)),
    processingStatus: ProcessingStatus.QUEUED,
    clockSkew: durationFromMs(skewMs),
  });
}
