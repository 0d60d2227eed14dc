/** Makes rows of events: of the bytes of a request where the scan is certain, otherwise of messages, with the full check. */
import { hash } from "node:crypto";
import { fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import type { FieldViolation } from "../rpc/errors.ts";
import { violationsOf } from "../rpc/validate.ts";
import { EventRow } from "./event-row.ts";
import { EventScanner } from "./event-scan.ts";
import { readEventKey } from "./words.ts";

/** Makes rows of events. The ids are not assigned yet. */
export interface EventReader {
  /** The row of an event in a request. Throws where the bytes are no event. */
  ofBytes(bytes: Uint8Array, start: number, end: number): EventRow;
  /** The row of an event that was decoded before. */
  ofMessage(event: Event): EventRow;
}

export function createEventReader(maxEventBytes: number): EventReader {
  const scanner = new EventScanner(maxEventBytes);

  function ofMessage(event: Event): EventRow {
    const violations = violationsOf(EventSchema, event);
    if (violations.length > 0) return brokenRow(event, violations);
    const row = canonicalRow(scanner, event);
    if (row.bytes.length <= maxEventBytes) return finished(row);
    const description = `the encoded event must have at most ${maxEventBytes} bytes; shorten its payload`;
    return brokenRow(event, [{ field: "", description, rule: "event.max_bytes" }]);
  }

  return {
    ofMessage,
    ofBytes(bytes, start, end) {
      const row = new EventRow();
      if (scanner.scan(bytes, start, end, row)) return finished(row);
      return ofMessage(fromBinary(EventSchema, bytes.subarray(start, end)));
    },
  };
}

function canonicalRow(scanner: EventScanner, event: Event): EventRow {
  for (const message of [event, withJsonNumbers(event)]) {
    const row = new EventRow();
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

function brokenRow(event: Event, violations: readonly FieldViolation[]): EventRow {
  const row = new EventRow();
  const encoded = toBinary(EventSchema, event);
  row.violations = violations;
  row.bytes = Buffer.concat([encoded, Buffer.from(event.eventId)]);
  row.event.set(0, encoded.length);
  row.eventId.set(encoded.length, row.bytes.length);
  return row;
}

function finished(row: EventRow): EventRow {
  const { bytes, event, eventId } = row;
  row.digest = hash("sha256", bytes.subarray(event.start, event.end), "latin1").slice(0, 16);
  if (eventId.end > 0) readEventKey(bytes, eventId.start, eventId.end, row.key);
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
