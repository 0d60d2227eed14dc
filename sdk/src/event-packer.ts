import type { EventFields, EventInput, SeverityName } from "./event-input.ts";
import { PagePool } from "./event-pages.ts";
import { eventTag } from "./event-tags.ts";
import type { Severity } from "./gen/pulsewire/ingestion/v1/event_pb.js";
import { writeStruct } from "./json-wire.ts";
import { PackedEvent } from "./packed-event.ts";
import { UuidWriter } from "./uuid-wire.ts";
import { endFrame, endMessage, writeDouble, writeInt64, writeText, writeVarint } from "./wire.ts";

/** Encodes events, one behind the other in pages. */
export class EventPacker {
  readonly #pool = new PagePool();
  readonly #uuids = new UuidWriter();
  readonly #times = new TimestampWriter();
  #page = this.#pool.take(0);
  #used = 0;
  #packing = false;
  #inner: EventPacker | undefined;

  /**
   * Encodes an event. Objects are read as JSON.stringify reads them: `undefined` is left out, a Date is a string.
   *
   * @throws TypeError where a field has the wrong type, or JSON cannot hold it
   */
  pack(input: EventFields): PackedEvent {
    // The input's own toJSON() or getter queues an event, too: it must not come to lie in the middle of this one.
    if (this.#packing) {
      this.#inner ??= new EventPacker();
      return this.#inner.pack(input);
    }
    this.#packing = true;
    try {
      return this.#pack(input);
    } finally {
      this.#packing = false;
    }
  }

  #pack(input: EventFields): PackedEvent {
    const priority = integer("priority", input.priority ?? 1);
    for (;;) {
      const [page, start] = [this.#page, this.#used];
      const end = this.#write(page.bytes, start, input, priority);
      // One byte more was written where the event is short, and is lost where it lay behind the page: endFrame() takes it back.
      if (end < page.bytes.length) {
        this.#used = end;
        return PackedEvent.of(page, start, end, priority);
      }
      page.release();
      this.#page = this.#pool.take(end - start + 1);
      this.#used = 0;
    }
  }

  #write(page: Uint8Array, start: number, input: EventFields, priority: number): number {
    const now = Date.now();
    page[start] = eventTag.events;
    // Two bytes are left for the length.
    let at = start + 3;
    if (input.eventId === undefined) {
      page[at++] = eventTag.eventId;
      at = this.#uuids.write(page, at, now);
    } else {
      if (input.eventId === "") throw new TypeError("The eventId is empty. Leave it out to have one made.");
      at = writeString(page, at, eventTag.eventId, "eventId", input.eventId);
    }
    at = writeString(page, at, eventTag.eventType, "eventType", input.eventType);
    at = writeString(page, at, eventTag.title, "title", input.title);
    at = writeString(page, at, eventTag.message, "message", input.message);
    if (input.severity !== undefined)
      at = writeNumber(page, at, eventTag.severity, severityOf(input.severity));
    if (input.source) at = writeSource(page, at, input.source);
    if (input.context) at = writeJson(page, at, eventTag.context, input.context);
    if (input.metrics) at = writeMetrics(page, at, input.metrics);
    if (input.metadata) at = writeJson(page, at, eventTag.metadata, input.metadata);
    if (input.payload) at = writeJson(page, at, eventTag.payload, input.payload);
    at = writeString(page, at, eventTag.userId, "userId", input.userId);
    at = writeString(page, at, eventTag.sessionId, "sessionId", input.sessionId);
    at = this.#times.write(page, at, input.timestamp === undefined ? now : Number(input.timestamp));
    at = writeNumber(page, at, eventTag.priority, priority);
    return endFrame(page, start + 1, at);
  }
}

/** Writes the time of events. Many have the same one. */
class TimestampWriter {
  #last = new Uint8Array(0);
  #ms = Number.NaN;

  /** @throws TypeError where it is no time */
  write(page: Uint8Array, at: number, ms: number): number {
    if (ms !== this.#ms) this.#encode(ms);
    if (at + this.#last.length <= page.length) page.set(this.#last, at);
    return at + this.#last.length;
  }

  #encode(ms: number): void {
    if (!Number.isFinite(ms))
      throw new TypeError("The timestamp of an event is a Date or milliseconds since 1970.");
    const seconds = Math.floor(ms / 1000);
    // What is finer than a microsecond is not kept.
    const nanos = Math.floor((ms - seconds * 1000) * 1000) * 1000;
    const last = new Uint8Array(32);
    last[0] = eventTag.timestamp;
    let at = 2;
    if (seconds !== 0) {
      last[at++] = 0x08;
      at = writeInt64(last, at, seconds);
    }
    at = writeNumber(last, at, 0x10, nanos);
    this.#last = last.subarray(0, endMessage(last, 1, at));
    this.#ms = ms;
  }
}

function writeString(
  page: Uint8Array,
  at: number,
  tag: number,
  name: string,
  value: string | undefined,
): number {
  if (value === undefined || value === "") return at;
  if (typeof value !== "string") throw new TypeError(`The ${name} of an event is a text.`);
  page[at] = tag;
  return writeText(page, at + 1, value);
}

function writeNumber(page: Uint8Array, at: number, tag: number, value: number): number {
  if (value === 0) return at;
  page[at] = tag;
  return writeVarint(page, at + 1, value);
}

function writeSource(page: Uint8Array, start: number, source: NonNullable<EventInput["source"]>): number {
  if (typeof source !== "object") throw new TypeError("The source of an event is an object.");
  page[start] = eventTag.source;
  let at = start + 2;
  at = writeString(page, at, 0x0a, "source.service", source.service);
  at = writeString(page, at, 0x12, "source.endpoint", source.endpoint);
  at = writeString(page, at, 0x1a, "source.method", source.method);
  at = writeString(page, at, 0x22, "source.version", source.version);
  return endMessage(page, start + 1, at);
}

function writeJson(page: Uint8Array, at: number, tag: number, value: object): number {
  if (typeof value !== "object")
    throw new TypeError("context, metadata and payload of an event are objects.");
  page[at] = tag;
  return endMessage(page, at + 1, writeStruct(page, at + 2, value));
}

function writeMetrics(page: Uint8Array, start: number, metrics: Record<string, number>): number {
  let at = start;
  for (const name of Object.keys(metrics)) {
    const value = metrics[name];
    if (typeof value !== "number") throw new TypeError(`The metric "${name}" of an event is a number.`);
    page[at++] = eventTag.metrics;
    const entry = at++;
    page[at++] = 0x0a;
    at = writeText(page, at, name);
    page[at++] = 0x11;
    at = endMessage(page, entry, writeDouble(page, at, value));
  }
  return at;
}

function severityOf(severity: SeverityName | Severity): number {
  const number = typeof severity === "string" ? severities[severity] : integer("severity", severity);
  if (number === undefined) {
    throw new TypeError(`The severity "${severity}" is none of ${Object.keys(severities).join(", ")}.`);
  }
  return number;
}

function integer(name: string, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= 0x7fffffff) return value;
  throw new TypeError(`The ${name} of an event is a whole number.`);
}

/** Numbers of the enum Severity. */
export const severities: Readonly<Record<SeverityName, number>> = {
  debug: 1,
  info: 2,
  warning: 3,
  error: 4,
  critical: 5,
};
