import type { FieldViolation } from "../rpc/errors.ts";

/** What became of an event: in the flush, or `retry` where there was no room for it. */
export type RowStatus = "accepted" | "duplicate" | "conflict" | "retry";

/**
 * An event on its way into the tables: the bytes of its message in canonical form, and where in them the columns lie.
 * UUIDs are four words of 32 bits: texts of 36 characters would cost more than all the rest.
 */
export class EventRow {
  /** The rules that it breaks; it must not be written then, and only `eventId` is known. */
  violations: readonly FieldViolation[] | undefined = undefined;
  bytes: Uint8Array = none;
  /** The whole event. */
  readonly event: Range = new Range();
  readonly eventId: Range = new Range();
  readonly eventType: Range = new Range();
  /** `user_id`, or `context.user_id` where that is empty. */
  readonly userId: Range = new Range();
  readonly sessionId: Range = new Range();
  readonly sourceService: Range = new Range();
  /** All entries of `metrics`. */
  readonly metrics: Range = new Range();
  severity = defaultSeverity;
  priority = 1;
  /** The sender's time, milliseconds; -1: not given. */
  timestampMs = -1;
  /** By the server's clock. */
  occurredAtMs = 0;
  /** Made here, in the order of receipt. */
  readonly id: Words = new Words();
  /** Dedupe key, from the event id. */
  readonly key: Words = new Words();
  /** 16 bytes that differ when the event does, as Latin-1: a string costs a fraction of a Buffer. */
  digest = "";
  /** Filled in by the flush. */
  status: RowStatus = "accepted";
  /** The row that is stored under the event id where that is not this one. */
  firstId: string | undefined = undefined;
}

/** A part of a row's bytes; empty where the event has no such field. */
export class Range {
  start = 0;
  end = 0;

  set(start: number, end: number): void {
    this.start = start;
    this.end = end;
  }
}

/** A UUID as four words, the first the most significant; signed, for those need no box. */
export class Words {
  a = 0;
  b = 0;
  c = 0;
  d = 0;
}

const none = new Uint8Array(0);
/** SEVERITY_INFO, which an event without severity counts as. */
const defaultSeverity = 2;
