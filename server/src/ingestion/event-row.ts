import type { FieldViolation } from "../rpc/errors.ts";

/** What became of an event: in the flush, or `retry` where there was no room for it. */
export type RowStatus = "accepted" | "duplicate" | "conflict" | "retry";

/**
 * Where the numbers of a row lie, counted from its first. A part of the row's bytes takes two, its start and its end, which
 * are equal where the event has no such field. A UUID takes four words, the first the most significant.
 */
export const slot = {
  /** The whole event. */
  event: 0,
  eventId: 2,
  eventType: 4,
  /** `user_id`, or `context.user_id` where that is empty. */
  userId: 6,
  sessionId: 8,
  sourceService: 10,
  /** All entries of `metrics`. */
  metrics: 12,
  /** Made here, in the order of receipt. */
  id: 14,
  /** Dedupe key, from the event id. */
  key: 18,
  /** 16 bytes that differ when the event does. */
  digest: 22,
  severity: 26,
  priority: 27,
  /** All fields from behind `event_type` up to `user_id`: but for the metrics these have no columns of their own. */
  body: 28,
  /** The field `timestamp`. */
  timestamp: 30,
} as const;

const slotsPerRow = 32;

/**
 * An event on its way into the tables: the bytes of its message in canonical form, and where in them the columns lie. The
 * numbers of many rows share one array: an object for each part of each event would cost more than all the rest.
 */
export class EventRow {
  /** Signed words; the row's begin at `base`. See `slot`. */
  readonly numbers: Int32Array;
  readonly base: number;
  bytes: Uint8Array = none;
  /** The rules that it breaks; it must not be written then, and only the event id is known. */
  violations: readonly FieldViolation[] | undefined = undefined;
  /** The sender's time, milliseconds; -1: not given. */
  timestampMs = -1;
  /** Whether the sender's time is finer than milliseconds. */
  finerTime = false;
  /** By the server's clock. */
  occurredAtMs = 0;
  /** Filled in by the flush. */
  status: RowStatus = "accepted";
  /** The row that is stored under the event id where that is not this one. */
  firstId: string | undefined = undefined;

  constructor(numbers: Int32Array, base: number) {
    this.numbers = numbers;
    this.base = base;
    numbers[base + slot.severity] = defaultSeverity;
    numbers[base + slot.priority] = 1;
  }

  /** A number of the row. */
  at(place: number): number {
    return this.numbers[this.base + place] as number;
  }

  setRange(place: number, start: number, end: number): void {
    this.numbers[this.base + place] = start;
    this.numbers[this.base + place + 1] = end;
  }

  /** The length of a part; 0 where the event has none. */
  lengthOf(place: number): number {
    return this.at(place + 1) - this.at(place);
  }

  /** The bytes of a part. */
  part(place: number): Uint8Array {
    return this.bytes.subarray(this.at(place), this.at(place + 1));
  }
}

const none = new Uint8Array(0);
/** SEVERITY_INFO, which an event without severity counts as. */
const defaultSeverity = 2;

/** Rows that share an array: few, for one that is waited for keeps the numbers of all. */
const rowsPerArray = 64;

/** Gives out empty rows. */
export function createRows(): () => EventRow {
  let numbers = new Int32Array(0);
  let next = 0;
  return () => {
    if (next === numbers.length) {
      numbers = new Int32Array(rowsPerArray * slotsPerRow);
      next = 0;
    }
    const row = new EventRow(numbers, next);
    next += slotsPerRow;
    return row;
  };
}
