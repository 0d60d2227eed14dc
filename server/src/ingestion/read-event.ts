/** Makes rows of events: of the bytes of a request where the scan is certain, otherwise of messages, with the full check. */
import { fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import type { FieldViolation } from "../rpc/errors.ts";
import { violationsOf } from "../rpc/validate.ts";
import { createRows, type EventRow, slot } from "./event-row.ts";
import { EventScanner } from "./event-scan.ts";
import { readDigest, readEventKey } from "./words.ts";

/** Makes rows of events. The ids are not assigned yet. */
export interface EventReader {
  /** The row of an event in a request. Throws where the bytes are no event. */
  ofBytes(bytes: Uint8Array, start: number, end: number): EventRow;
  /** The row of an event that was decoded before. */
  ofMessage(event: Event): EventRow;
}

export function createEventReader(maxEventBytes: number): EventReader {
  const scanner = new EventScanner(maxEventBytes);
  const newRow = createRows();

  function ofMessage(event: Event): EventRow {
    const violations = violationsOf(EventSchema, event);
    if (violations.length > 0) return brokenRow(newRow(), event, violations);
    const row = canonicalRow(scanner, newRow, event);
    if (row.bytes.length <= maxEventBytes) return finished(row);
    const description = `the encoded event must have at most ${maxEventBytes} bytes; shorten its payload`;
    return brokenRow(newRow(), event, [{ field: "", description, rule: "event.max_bytes" }]);
  }

  return {
    ofMessage,
    ofBytes(bytes, start, end) {
      const row = newRow();
      if (scanner.scan(bytes, start, end, row)) return finished(row);
      return ofMessage(fromBinary(EventSchema, bytes.subarray(start, end)));
    },
  };
}

function canonicalRow(scanner: EventScanner, newRow: () => EventRow, event: Event): EventRow {
  for (const message of [event, withJsonNumbers(event)]) {
    const row = newRow();
    if (scanner.scanChecked(toBinary(EventSchema, message, { writeUnknownFields: false }), row)) return row;
  }
  throw new Error("an event that keeps all rules cannot be brought into canonical form");
}

/** JSON has no infinite numbers and no NaN: null stands for them. */
function withJsonNumbers(event: Event): Event {
  const { context, metadata, payload } = event;
  const json = (value: JsonObject): JsonObject => JSON.parse(JSON.stringify(value));
  return {
    ...event,
    ...(context && { context: json(context) }),
    ...(metadata && { metadata: json(metadata) }),
    ...(payload && { payload: json(payload) }),
  };
}

function brokenRow(row: EventRow, event: Event, violations: readonly FieldViolation[]): EventRow {
  const encoded = toBinary(EventSchema, event);
  row.violations = violations;
  row.bytes = Buffer.concat([encoded, Buffer.from(event.eventId)]);
  row.setRange(slot.event, 0, encoded.length);
  row.setRange(slot.eventId, encoded.length, row.bytes.length);
  return row;
}

function finished(row: EventRow): EventRow {
  const { bytes, numbers, base } = row;
  readDigest(row.part(slot.event), numbers, base + slot.digest);
  const idEnd = row.at(slot.eventId + 1);
  if (idEnd > 0) readEventKey(bytes, row.at(slot.eventId), idEnd, numbers, base + slot.key);
  return row;
}

const year10000Ms = Date.UTC(10_000, 0, 1);

/** Sets when the event happened by the server's clock, and notes where that is no time that can be kept. */
export function correctClock(row: EventRow, receivedAtMs: number, skewMs: number): void {
  row.occurredAtMs = row.timestampMs < 0 ? receivedAtMs : row.timestampMs + skewMs;
  if (row.violations || (row.occurredAtMs >= 0 && row.occurredAtMs < year10000Ms)) return;
  const description = "must lie in the years 1970 to 9999, also after the correction of the clock by sent_at";
  row.violations = [{ field: "timestamp", description, rule: "timestamp.range" }];
}
