/** The columns of many events as arrays in PostgreSQL's binary format, written straight from the bytes of the requests. */
import { arrayHeaderBytes, elementTypes, writeArrayHeader, writeTimestamp } from "../db/binary-array.ts";
import { type EventRow, slot } from "./event-row.ts";
import { writeUuid, writeUuidText } from "./words.ts";

/** The columns of `event_keys` but for the tenant: key, event_row, digest. */
export function keyColumns(rows: readonly EventRow[]): Buffer[] {
  return [uuidColumn(rows, slot.key), uuidColumn(rows, slot.id), uuidColumn(rows, slot.digest)];
}

/**
 * The columns of `events` but for the tenant: id, event_id, event_type, user_id, session_id, severity, priority,
 * occurred_at, encoded, metrics, source_service.
 */
export function eventColumns(rows: readonly EventRow[]): Buffer[] {
  return [
    uuidColumn(rows, slot.id),
    eventIdColumn(rows),
    rangeColumn(elementTypes.text, rows, slot.eventType),
    rangeColumn(elementTypes.text, rows, slot.userId),
    rangeColumn(elementTypes.text, rows, slot.sessionId),
    int2Column(rows, slot.severity),
    int2Column(rows, slot.priority),
    fixedColumn(elementTypes.timestamptz, 8, rows, (target, at, { occurredAtMs }) => {
      writeTimestamp(target, at, occurredAtMs);
    }),
    encodedColumn(rows),
    metricsColumn(rows),
    rangeColumn(elementTypes.text, rows, slot.sourceService),
  ];
}

function fixedColumn(
  elementType: number,
  elementBytes: number,
  rows: readonly EventRow[],
  write: (target: Buffer, at: number, row: EventRow) => void,
): Buffer {
  const target = Buffer.allocUnsafe(arrayHeaderBytes + rows.length * (4 + elementBytes));
  let at = writeArrayHeader(target, elementType, rows.length);
  for (const row of rows) {
    at = writeLength(target, at, elementBytes);
    write(target, at, row);
    at += elementBytes;
  }
  return target;
}

const uuidColumn = (rows: readonly EventRow[], place: number) =>
  fixedColumn(elementTypes.uuid, 16, rows, (target, at, { numbers, base }) => {
    writeUuid(target, at, numbers, base + place);
  });

const int2Column = (rows: readonly EventRow[], place: number) =>
  fixedColumn(elementTypes.int2, 2, rows, (target, at, row) => {
    target[at] = 0;
    target[at + 1] = row.at(place);
  });

/** A text or bytes from each event; null where it has none. */
function rangeColumn(elementType: number, rows: readonly EventRow[], place: number): Buffer {
  let size = arrayHeaderBytes + 4 * rows.length;
  for (const row of rows) size += row.lengthOf(place);
  const target = Buffer.allocUnsafe(size);
  let at = writeArrayHeader(target, elementType, rows.length);
  for (const row of rows) {
    const start = row.at(place);
    const end = row.at(place + 1);
    at = end === start ? writeLength(target, at, -1) : writeRange(target, at, row.bytes, start, end);
  }
  return target;
}

/**
 * Of the event's message what no column holds, as a message: other fields, and the sender's time where it is not that of
 * `occurred_at`. See `rowToEvent`.
 */
function encodedColumn(rows: readonly EventRow[]): Buffer {
  let size = arrayHeaderBytes;
  for (const row of rows) size += 4 + row.lengthOf(slot.body) + row.lengthOf(slot.timestamp);
  const target = Buffer.allocUnsafe(size);
  let at = writeArrayHeader(target, elementTypes.bytea, rows.length);
  for (const row of rows) {
    const { bytes, timestampMs, occurredAtMs, finerTime } = row;
    const start = at + 4;
    const end = row.at(slot.body + 1);
    // Without metrics their place is empty, at 0.
    const metricsEnd = row.at(slot.metrics + 1);
    const metricsStart = metricsEnd > 0 ? row.at(slot.metrics) : end;
    let to = copyRange(target, start, bytes, row.at(slot.body), metricsStart);
    if (metricsEnd > 0) to = copyRange(target, to, bytes, metricsEnd, end);
    if (finerTime || timestampMs !== occurredAtMs)
      to = copyRange(target, to, bytes, row.at(slot.timestamp), row.at(slot.timestamp + 1));
    writeLength(target, at, to - start);
    at = to;
  }
  return target.subarray(0, at);
}

/** An event without an id is stored under the one that was made here. */
function eventIdColumn(rows: readonly EventRow[]): Buffer {
  let size = arrayHeaderBytes;
  for (const row of rows) size += 4 + (row.lengthOf(slot.eventId) || 36);
  const target = Buffer.allocUnsafe(size);
  let at = writeArrayHeader(target, elementTypes.text, rows.length);
  for (const row of rows) {
    const start = row.at(slot.eventId);
    const end = row.at(slot.eventId + 1);
    if (end > start) at = writeRange(target, at, row.bytes, start, end);
    else at = writeUuidText(target, writeLength(target, at, 36), row.numbers, row.base + slot.id);
  }
  return target;
}

function writeLength(target: Uint8Array, at: number, length: number): number {
  target[at] = length >>> 24;
  target[at + 1] = length >>> 16;
  target[at + 2] = length >>> 8;
  target[at + 3] = length;
  return at + 4;
}

/** Up to this length a loop is faster than a call into the engine. */
const loopAtMost = 48;

function writeRange(target: Buffer, at: number, bytes: Uint8Array, from: number, to: number): number {
  return copyRange(target, writeLength(target, at, to - from), bytes, from, to);
}

function copyRange(target: Buffer, at: number, bytes: Uint8Array, from: number, to: number): number {
  if (to - from <= loopAtMost)
    for (let index = from; index < to; index++) target[at + index - from] = bytes[index] as number;
  else target.set(bytes.subarray(from, to), at);
  return at + to - from;
}

const double = new Float64Array(1);
const doubleBytes = new Uint8Array(double.buffer);
/** Room for a row: each byte of its metrics may become an escape of six, and each entry, of 13 bytes and more, has a number as text. */
const jsonOfByte = 8;
const keptJsonBytes = 1024 * 1024;
/** What the JSON is written to before its length is known; used again, for new memory costs more than the copy. */
let json = Buffer.allocUnsafe(16 * 1024);

/** The metrics as JSON objects; null where the event has none. */
function metricsColumn(rows: readonly EventRow[]): Buffer {
  let at = writeArrayHeader(json, elementTypes.json, rows.length);
  for (const row of rows) {
    const room = 4 + jsonOfByte * row.lengthOf(slot.metrics);
    if (at + room > json.length) json = Buffer.concat([json.subarray(0, at)], 2 * (at + room));
    if (row.lengthOf(slot.metrics) === 0) {
      at = writeLength(json, at, -1);
    } else {
      const end = writeMetrics(json, at + 4, row);
      writeLength(json, at, end - at - 4);
      at = end;
    }
  }
  const column = Buffer.from(json.subarray(0, at));
  if (json.length > keptJsonBytes) json = Buffer.allocUnsafe(keptJsonBytes);
  return column;
}

/** Writes the metrics as a JSON object; returns the position behind it. The bytes have been scanned. */
function writeMetrics(target: Buffer, start: number, row: EventRow): number {
  const { bytes } = row;
  const stop = row.at(slot.metrics + 1);
  let to = start;
  for (let at = row.at(slot.metrics); at < stop; ) {
    // Tag, length of the entry (its value has 9 bytes), tag of the key.
    at += 2;
    while ((bytes[at - 1] as number) >= 0x80) at++;
    at++;
    let length = (bytes[at++] as number) & 0x7f;
    for (let shift = 7; (bytes[at - 1] as number) >= 0x80; shift += 7)
      length |= ((bytes[at++] as number) & 0x7f) << shift;
    target[to++] = to - 1 === start ? brace : comma;
    to = writeName(target, to, bytes, at, at + length);
    target[to++] = colon;
    at += length + 1;
    for (let index = 0; index < 8; index++) doubleBytes[index] = bytes[at + index] as number;
    const value = double[0] as number;
    const text = Object.is(value, -0) ? "-0" : `${value}`;
    for (let index = 0; index < text.length; index++) target[to++] = text.charCodeAt(index);
    at += 8;
  }
  target[to++] = closingBrace;
  return to;
}

const [quote, comma, colon, backslash, brace, closingBrace] = [0x22, 0x2c, 0x3a, 0x5c, 0x7b, 0x7d] as const;

function writeName(target: Buffer, start: number, bytes: Uint8Array, from: number, end: number): number {
  let to = start;
  target[to++] = quote;
  for (let at = from; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte < 0x20 || byte === quote || byte === backslash) {
      const name = Buffer.from(bytes.subarray(from, end)).toString();
      return start + target.write(JSON.stringify(name), start);
    }
    target[to++] = byte;
  }
  target[to++] = quote;
  return to;
}
