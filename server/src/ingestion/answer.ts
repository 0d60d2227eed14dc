/** The answer to a batch as bytes: outcomes come by the hundred, and nearly all are the same but for their ids. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ItemOutcome,
  ItemOutcomeSchema,
  type OutcomeCounts,
  OutcomeCountsSchema,
  OutcomeStatus,
} from "../gen/pulsewire/common/v1/outcome_pb.js";
import {
  type IngestEventsResponse,
  IngestEventsResponseSchema,
} from "../gen/pulsewire/ingestion/v1/event_pb.js";
import { type EventRow, slot } from "./event-row.ts";
import { uuidText, writeUuidText } from "./words.ts";

/** What became of a batch. */
export interface BatchResult {
  /** In the order sent, with their status filled in. */
  readonly rows: readonly EventRow[];
  readonly receivedAtMs: number;
  readonly skewMs: number;
  /** Of rows that were not written now: when to send them again, and why they were not written. */
  readonly retryDelayMs: number;
  readonly retryReason: string;
}

/** IngestEventsResponse in its encoded form. Read as a message it is the usual one. */
export class EncodedAnswer implements IngestEventsResponse {
  readonly $typeName = IngestEventsResponseSchema.typeName;
  readonly bytes: Uint8Array;
  #message: IngestEventsResponse | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
  /** The message, for whoever writes it in another form. */
  get message(): IngestEventsResponse {
    this.#message ??= fromBinary(IngestEventsResponseSchema, this.bytes);
    return this.#message;
  }
  get counts(): OutcomeCounts | undefined {
    return this.message.counts;
  }
  get outcomes(): ItemOutcome[] {
    return this.message.outcomes;
  }
  get receivedAt(): Timestamp | undefined {
    return this.message.receivedAt;
  }
  get clockSkew(): Duration | undefined {
    return this.message.clockSkew;
  }
}

const statuses = {
  accepted: OutcomeStatus.ACCEPTED,
  duplicate: OutcomeStatus.DUPLICATE,
  conflict: OutcomeStatus.CONFLICT,
  retry: OutcomeStatus.RETRY,
} as const;

/** The outcome of an event. */
export function outcomeOf(
  row: EventRow,
  { retryDelayMs, retryReason }: Pick<BatchResult, "retryDelayMs" | "retryReason">,
): ItemOutcome {
  const { violations, status } = row;
  const id = idOf(row);
  if (violations) {
    const [first] = violations;
    const { field = "", rule: code = "", description: message = "" } = first ?? {};
    return create(ItemOutcomeSchema, { status: OutcomeStatus.REJECTED, id, field, code, message });
  }
  const outcome = create(ItemOutcomeSchema, { status: statuses[status], id });
  if (status === "conflict") {
    outcome.field = "event_id";
    outcome.code = "CONFLICT";
    outcome.message =
      "this event_id was used before with another body; send the event under an id of its own";
  } else if (status === "retry") {
    outcome.message = retryReason;
    outcome.retryDelay = durationFromMs(retryDelayMs);
  }
  return outcome;
}

/** The event's id, given or made; empty where an event that was not written has none. */
function idOf(row: EventRow): string {
  const { bytes, violations, status } = row;
  const start = row.at(slot.eventId);
  const end = row.at(slot.eventId + 1);
  if (end > start) return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString();
  return violations || status === "retry" ? "" : uuidText(row.numbers, row.base + slot.id);
}

const outcomesTag = 0x12;
/** Status (tag and value), tag and length of the id, in an outcome. */
const plainHead = 5;

/**
 * Writes the answer. The counts sum to the batch.
 *
 * @param omitIfAllAccepted leaves the outcomes out where they would say only that
 */
export function encodeAnswer(result: BatchResult, omitIfAllAccepted = false): Uint8Array {
  const { rows, receivedAtMs, skewMs } = result;
  const counts = create(OutcomeCountsSchema, { total: rows.length });
  // All but the outcomes: their field numbers lie around those, which readers of Protobuf take in any order.
  const others = new Map<EventRow, Uint8Array>();
  let size = 0;
  for (const row of rows) {
    const name = row.violations ? "rejected" : row.status;
    counts[name]++;
    if (name === "accepted" || name === "duplicate") {
      size += 4 + plainHead + (row.lengthOf(slot.eventId) || 36);
    } else {
      const outcome = toBinary(ItemOutcomeSchema, outcomeOf(row, result));
      others.set(row, outcome);
      size += 6 + outcome.length;
    }
  }
  const frame = toBinary(
    IngestEventsResponseSchema,
    create(IngestEventsResponseSchema, {
      counts,
      receivedAt: timestampFromMs(receivedAtMs),
      clockSkew: durationFromMs(skewMs),
    }),
  );
  if (omitIfAllAccepted && counts.accepted === counts.total) return frame;
  const target = Buffer.allocUnsafe(frame.length + size);
  target.set(frame);
  let at = frame.length;
  for (const row of rows) {
    const other = others.get(row);
    target[at++] = outcomesTag;
    if (other) {
      at = writeVarint(target, at, other.length);
      target.set(other, at);
      at += other.length;
    } else {
      at = writePlainOutcome(target, at, row);
    }
  }
  return target.subarray(0, at);
}

function writePlainOutcome(target: Buffer, start: number, row: EventRow): number {
  const { bytes, status } = row;
  const idStart = row.at(slot.eventId);
  const idEnd = row.at(slot.eventId + 1);
  const idLength = idEnd - idStart || 36;
  let at = writeVarint(target, start, 2 + 1 + (idLength < 0x80 ? 1 : 2) + idLength);
  target[at++] = 0x08;
  target[at++] = statuses[status];
  target[at++] = 0x12;
  at = writeVarint(target, at, idLength);
  if (idEnd === idStart) return writeUuidText(target, at, row.numbers, row.base + slot.id);
  for (let from = idStart; from < idEnd; from++) target[at++] = bytes[from] as number;
  return at;
}

/** Writes a positive number below 2^32; returns the position behind it. */
export function writeVarint(target: Buffer, start: number, value: number): number {
  let at = start;
  let left = value;
  while (left >= 0x80) {
    target[at++] = (left & 0x7f) | 0x80;
    left >>>= 7;
  }
  target[at++] = left;
  return at;
}
