import type { Place } from "./backlog.ts";
import type { Severity } from "./gen/pulsewire/ingestion/v1/event_pb.js";
import { writeStruct } from "./json-wire.ts";
import type { Item } from "./queue.ts";
import { UuidWriter } from "./uuid-wire.ts";
import { WireWriter } from "./wire-writer.ts";

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

/** An event ready to be sent: a range of a page of memory that many share, encoded once, however often it is sent. */
export class PackedEvent implements Item {
  readonly page: Uint8Array;
  /** Where it begins: with its tag and length, as it stands in a request. */
  readonly start: number;
  readonly end: number;
  /** 1 to 10. */
  readonly priority: number;
  sequence = 0;
  place: Place | undefined = undefined;

  constructor(page: Uint8Array, start: number, end: number, priority: number) {
    this.page = page;
    this.start = start;
    this.end = end;
    this.priority = priority;
  }

  get size(): number {
    return this.end - this.start;
  }

  /** Its bytes, tag and length included. */
  get bytes(): Uint8Array {
    return this.page.subarray(this.start, this.end);
  }

  /** Its id, which is its first field. */
  get id(): string {
    const { page } = this;
    let at = this.start + 1;
    while ((page[at++] as number) > 0x7f);
    if (page[at++] !== tag.eventId) throw new TypeError("The event has no id.");
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = page[at++] as number;
      length += (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return decoder.decode(page.subarray(at, at + length));
  }
}

const decoder = /* @__PURE__ */ new TextDecoder();

/** Size of a page. It is freed when the last event in it is settled. */
const pageBytes = 64 * 1024;

/** Encodes events, one behind the other in pages. */
export class EventPacker {
  readonly #writer = new WireWriter();
  readonly #uuids = new UuidWriter();

  /**
   * Encodes an event. Objects are read as JSON.stringify reads them: `undefined` is left out, a Date is a string.
   *
   * @throws TypeError where a field has the wrong type, or JSON cannot hold it
   */
  pack(input: EventInput): PackedEvent {
    const writer = this.#writer;
    const priority = integer("priority", input.priority ?? 1);
    for (;;) {
      const start = writer.position;
      try {
        this.#write(input, priority);
      } catch (error) {
        writer.position = start;
        throw error;
      }
      const end = writer.position;
      if (end <= writer.page.length) return new PackedEvent(writer.page, start, end, priority);
      writer.open(new Uint8Array(Math.max(pageBytes, end - start)));
    }
  }

  #write(input: EventInput, priority: number): void {
    const writer = this.#writer;
    const now = Date.now();
    writer.byte(tag.events);
    const start = writer.position;
    writer.position += 2;
    if (input.eventId === undefined) {
      writer.byte(tag.eventId);
      this.#uuids.write(writer, now);
    } else {
      if (input.eventId === "") throw new TypeError("The eventId is empty. Leave it out to have one made.");
      writeText(writer, tag.eventId, "eventId", input.eventId);
    }
    writeText(writer, tag.eventType, "eventType", input.eventType);
    writeText(writer, tag.title, "title", input.title);
    writeText(writer, tag.message, "message", input.message);
    if (input.severity !== undefined) writeNumber(writer, tag.severity, severityOf(input.severity));
    if (input.source) writeSource(writer, input.source);
    if (input.context) writeJson(writer, tag.context, input.context);
    if (input.metrics) writeMetrics(writer, input.metrics);
    if (input.metadata) writeJson(writer, tag.metadata, input.metadata);
    if (input.payload) writeJson(writer, tag.payload, input.payload);
    writeText(writer, tag.userId, "userId", input.userId);
    writeText(writer, tag.sessionId, "sessionId", input.sessionId);
    writeTimestamp(writer, input.timestamp === undefined ? now : Number(input.timestamp));
    writeNumber(writer, tag.priority, priority);
    writer.endFrame(start);
  }
}

/** Pages of events that were encoded before. */
export class EventPages {
  #page = new Uint8Array(0);
  #used = 0;

  /**
   * Takes the bytes of an event, tag and length included.
   *
   * @throws TypeError where they are none
   */
  copy(bytes: Uint8Array): PackedEvent {
    const { length } = bytes;
    if (bytes[0] !== tag.events || length < 4) throw new TypeError("These are not the bytes of an event.");
    if (this.#used + length > this.#page.length) {
      this.#page = new Uint8Array(Math.max(pageBytes, length));
      this.#used = 0;
    }
    this.#page.set(bytes, this.#used);
    const start = this.#used;
    this.#used += length;
    // The packer writes the priority last.
    const priority = bytes[length - 2] === tag.priority ? (bytes[length - 1] as number) : 1;
    return new PackedEvent(this.#page, start, this.#used, Math.min(priority, maxPriority));
  }
}

const maxPriority = 10;

/** Tags of the fields: number and wire type in one byte. */
const tag = {
  events: 0x0a,
  eventId: 0x0a,
  eventType: 0x12,
  title: 0x1a,
  message: 0x22,
  severity: 0x28,
  source: 0x32,
  context: 0x3a,
  metrics: 0x42,
  metadata: 0x4a,
  payload: 0x52,
  userId: 0x5a,
  sessionId: 0x62,
  timestamp: 0x6a,
  priority: 0x70,
} as const;

function writeText(writer: WireWriter, tagByte: number, name: string, value: string | undefined): void {
  if (value === undefined || value === "") return;
  if (typeof value !== "string") throw new TypeError(`The ${name} of an event is a text.`);
  writer.byte(tagByte);
  writer.text(value);
}

function writeNumber(writer: WireWriter, tagByte: number, value: number): void {
  if (value === 0) return;
  writer.byte(tagByte);
  writer.varint(value);
}

function writeSource(writer: WireWriter, source: NonNullable<EventInput["source"]>): void {
  if (typeof source !== "object") throw new TypeError("The source of an event is an object.");
  writer.byte(tag.source);
  const start = writer.begin();
  writeText(writer, 0x0a, "source.service", source.service);
  writeText(writer, 0x12, "source.endpoint", source.endpoint);
  writeText(writer, 0x1a, "source.method", source.method);
  writeText(writer, 0x22, "source.version", source.version);
  writer.end(start);
}

function writeJson(writer: WireWriter, tagByte: number, value: object): void {
  if (typeof value !== "object")
    throw new TypeError("context, metadata and payload of an event are objects.");
  writer.byte(tagByte);
  const start = writer.begin();
  writeStruct(writer, value);
  writer.end(start);
}

function writeMetrics(writer: WireWriter, metrics: Record<string, number>): void {
  for (const name of Object.keys(metrics)) {
    const value = metrics[name];
    if (typeof value !== "number") throw new TypeError(`The metric "${name}" of an event is a number.`);
    writer.byte(tag.metrics);
    const entry = writer.begin();
    writer.byte(0x0a);
    writer.text(name);
    writer.byte(0x11);
    writer.double(value);
    writer.end(entry);
  }
}

function writeTimestamp(writer: WireWriter, ms: number): void {
  if (!Number.isFinite(ms))
    throw new TypeError("The timestamp of an event is a Date or milliseconds since 1970.");
  const seconds = Math.floor(ms / 1000);
  // What is finer than a microsecond is not kept.
  const nanos = Math.floor((ms - seconds * 1000) * 1000) * 1000;
  writer.byte(tag.timestamp);
  const start = writer.begin();
  if (seconds !== 0) {
    writer.byte(0x08);
    writer.int64(seconds);
  }
  writeNumber(writer, 0x10, nanos);
  writer.end(start);
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
const severities: Readonly<Record<SeverityName, number>> = {
  debug: 1,
  info: 2,
  warning: 3,
  error: 4,
  critical: 5,
};
