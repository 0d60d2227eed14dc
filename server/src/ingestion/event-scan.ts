/**
 * Reads events where they lie in a request: checks the contract's rules, brings the bytes into canonical form and notes
 * where the columns are, in one pass and without an object for each field. What is unusual it leaves to the full check,
 * `rowOfEvent`: a scan that says yes is certain, one that says no has decided nothing.
 *
 * Canonical: fields and map keys in order and once each, no defaults written out, lengths in their shortest form. Maps
 * come in any order, so their entries are sorted in place; whatever else is not canonical is left to the full check,
 * which encodes the event anew. So equal events have equal bytes, and one hash tells a duplicate from a conflict.
 */
import { EventSchema, EventSourceSchema } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import { type EventRow, slot } from "./event-row.ts";
import {
  assertNoRules,
  assertSince1970,
  largestEnum,
  largestInt,
  numbersRule,
  type TextRule,
  textRule,
  textRules,
} from "./scan-rules.ts";
import { WireScanner } from "./wire-scan.ts";

const { field } = EventSchema;
const eventIdRule = textRule(field.eventId);
const eventTypeRule = textRule(field.eventType);
const titleRule = textRule(field.title);
const messageRule = textRule(field.message);
const userIdRule = textRule(field.userId);
const sessionIdRule = textRule(field.sessionId);
const sourceRules = textRules(EventSourceSchema);
const metricsRule = numbersRule(field.metrics);
const largestSeverity = largestEnum(field.severity);
const largestPriority = largestInt(field.priority);
assertSince1970(field.timestamp);
for (const free of [field.source, field.context, field.metadata, field.payload]) assertNoRules(free);

/** Fields with their wire types, as they stand in one byte before each field. */
const tag = {
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

const year10000Seconds = 253_402_300_800;
/** Of `context.user_id`, as of `user_id`. */
const maxUserIdUnits = 200;
const userIdKey = Buffer.from("user_id");

/** Scans one message after another; not to be entered twice. */
export class EventScanner extends WireScanner {
  readonly #maxEventBytes: number;

  constructor(maxEventBytes: number) {
    super();
    this.#maxEventBytes = maxEventBytes;
  }

  /**
   * Fills in a row from the event in `bytes` from `start` to `end`, whose map entries may change places. False: not
   * decided; the row is to be thrown away.
   */
  scan(bytes: Uint8Array, start: number, end: number, row: EventRow): boolean {
    this.checked = false;
    return end - start <= this.#maxEventBytes && this.#event(bytes, start, end, row);
  }

  /** The same for an event that has been checked against the rules and was encoded here. */
  scanChecked(bytes: Uint8Array, row: EventRow): boolean {
    this.checked = true;
    return this.#event(bytes, 0, bytes.length, row);
  }

  #event(bytes: Uint8Array, start: number, end: number, row: EventRow): boolean {
    this.bytes = bytes;
    this.at = start;
    this.entries.clear();
    row.bytes = bytes;
    row.setRange(slot.event, start, end);
    let last = 0;
    let contextStart = 0;
    let contextEnd = 0;
    let bodyStart = start;
    let bodyEnd = end;
    while (this.at < end) {
      const next = bytes[this.at++] as number;
      if (next <= last) return false;
      last = next;
      if (next >= tag.userId && bodyEnd === end) bodyEnd = this.at - 1;
      switch (next) {
        case tag.eventId:
          if (!this.#text(eventIdRule, end, row, slot.eventId)) return false;
          break;
        case tag.eventType:
          if (!this.#text(eventTypeRule, end, row, slot.eventType)) return false;
          bodyStart = this.at;
          break;
        case tag.title:
          if (!this.#text(titleRule, end)) return false;
          break;
        case tag.message:
          if (!this.#text(messageRule, end)) return false;
          break;
        case tag.severity:
          if (!this.#small(largestSeverity, end, row, slot.severity)) return false;
          break;
        case tag.source:
          if (!this.#source(end, row)) return false;
          break;
        case tag.context: {
          const length = this.length(end);
          contextStart = this.at;
          contextEnd = contextStart + length;
          if (length < 0 || !this.struct(contextEnd, 0)) return false;
          break;
        }
        case tag.metrics:
          if (!this.#metrics(end, row)) return false;
          break;
        case tag.metadata:
        case tag.payload: {
          const length = this.length(end);
          if (length < 0 || !this.struct(this.at + length, 0)) return false;
          break;
        }
        case tag.userId:
          if (!this.#text(userIdRule, end, row, slot.userId)) return false;
          break;
        case tag.sessionId:
          if (!this.#text(sessionIdRule, end, row, slot.sessionId)) return false;
          break;
        case tag.timestamp:
          if (!this.#timestamp(end, row)) return false;
          break;
        case tag.priority:
          if (!this.#small(largestPriority, end, row, slot.priority)) return false;
          break;
        default:
          return false;
      }
    }
    if (row.at(slot.eventType + 1) === 0) return false;
    row.setRange(slot.body, bodyStart, bodyEnd);
    if (row.at(slot.userId + 1) === 0 && contextEnd > 0) this.#userOfContext(contextStart, contextEnd, row);
    return true;
  }

  /** Reads a text that is not empty and, where a row is given, notes its place. */
  #text(rule: TextRule, end: number, row?: EventRow, place = 0): boolean {
    const length = this.length(end);
    if (length <= 0 || !this.textOf(rule, length)) return false;
    row?.setRange(place, this.at - length, this.at);
    return true;
  }

  /** Reads a whole number from 1 to `largest`, which is below 128. */
  #small(largest: number, end: number, row: EventRow, place: number): boolean {
    if (this.at >= end) return false;
    const value = this.bytes[this.at++] as number;
    row.numbers[row.base + place] = value;
    return value > 0 && value <= largest;
  }

  #source(end: number, row: EventRow): boolean {
    const length = this.length(end);
    if (length < 0) return false;
    const stop = this.at + length;
    let last = 0;
    while (this.at < stop) {
      const next = this.bytes[this.at++] as number;
      const rule = (next & 7) === 2 ? sourceRules.get(next >> 3) : undefined;
      if (
        next <= last ||
        !rule ||
        !this.#text(rule, stop, next === 0x0a ? row : undefined, slot.sourceService)
      ) {
        return false;
      }
      last = next;
    }
    return true;
  }

  #timestamp(end: number, row: EventRow): boolean {
    const start = this.at - 1;
    const length = this.length(end);
    if (length < 0) return false;
    const bytes = this.bytes;
    const stop = this.at + length;
    let seconds = 0;
    let nanos = 0;
    if (this.at < stop && bytes[this.at] === 0x08) {
      this.at++;
      seconds = this.positive(stop);
      if (seconds <= 0 || seconds >= year10000Seconds) return false;
    }
    if (this.at < stop && bytes[this.at] === 0x10) {
      this.at++;
      nanos = this.positive(stop);
      if (nanos <= 0 || nanos >= 1e9) return false;
    }
    if (this.at !== stop) return false;
    row.setRange(slot.timestamp, start, stop);
    row.timestampMs = seconds * 1_000 + Math.round(nanos / 1e6);
    row.finerTime = nanos % 1e6 !== 0;
    return true;
  }

  /** Reads the entries of `metrics`, which follow each other, from behind the first tag. */
  #metrics(end: number, row: EventRow): boolean {
    const bytes = this.bytes;
    const start = this.at - 1;
    const base = this.entries.top;
    let pairs = 0;
    do {
      if (pairs > 0) this.at++;
      if (++pairs > metricsRule.maxPairs && !this.checked) return false;
      const entry = this.at - 1;
      const length = this.length(end);
      if (length < 0) return false;
      const stop = this.at + length;
      if (!this.key(metricsRule.name, stop, entry)) return false;
      if (this.at + 9 !== stop || bytes[this.at++] !== 0x11 || !this.finite()) return false;
      this.at = stop;
    } while (this.at < end && bytes[this.at] === tag.metrics);
    row.setRange(slot.metrics, start, this.at);
    return this.entries.sort(bytes, base);
  }

  #equals(start: number, other: Uint8Array): boolean {
    for (let index = 0; index < other.length; index++) {
      if (this.bytes[start + index] !== other[index]) return false;
    }
    return true;
  }

  /** `context.user_id`, where it is a text, up to the length of a user id. The struct has been read before. */
  #userOfContext(start: number, end: number, row: EventRow): void {
    const bytes = this.bytes;
    this.at = start;
    while (this.at < end) {
      this.at++;
      const length = this.length(end);
      const stop = this.at + length;
      this.at++;
      const keyLength = this.length(stop);
      if (keyLength === userIdKey.length && this.#equals(this.at, userIdKey)) {
        this.at += keyLength + 1;
        this.length(stop);
        if (bytes[this.at++] !== 0x1a) return;
        const textLength = this.length(stop);
        if (textLength > 0)
          row.setRange(slot.userId, this.at, endOfUnits(bytes, this.at, stop, maxUserIdUnits));
        return;
      }
      this.at = stop;
    }
  }
}

/** The end of the characters that have at most so many UTF-16 units together. */
function endOfUnits(bytes: Uint8Array, start: number, end: number, units: number): number {
  if (end - start <= units) return end;
  let left = units;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    // Bytes within a character do not count; characters of four bytes are two units.
    if ((byte & 0xc0) === 0x80) continue;
    left -= byte >= 0xf0 ? 2 : 1;
    if (left < 0) return at;
  }
  return end;
}
