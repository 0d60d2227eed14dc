/** The answer to a single event: as bytes where it is the usual one, that of an event that was accepted. */
import { create, fromBinary } from "@bufbuild/protobuf";
import {
  type Duration,
  durationFromMs,
  type Timestamp,
  timestampFromDate,
  timestampFromMs,
} from "@bufbuild/protobuf/wkt";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import {
  type IngestEventResponse,
  IngestEventResponseSchema,
  ProcessingStatus,
} from "../gen/pulsewire/ingestion/v1/event_pb.js";
import { failure } from "../rpc/errors.ts";
import { type BatchResult, outcomeOf, writeVarint } from "./answer.ts";
import { type EventRow, slot } from "./event-row.ts";
import { timeOfId, timeOfUuidv7 } from "./ids.ts";
import { writeUuidText } from "./words.ts";

/** IngestEventResponse in its encoded form. Read as a message it is the usual one. */
export class EncodedEventAnswer implements IngestEventResponse {
  readonly $typeName = IngestEventResponseSchema.typeName;
  readonly bytes: Uint8Array;
  #message: IngestEventResponse | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
  /** The message, for whoever reads it. */
  get message(): IngestEventResponse {
    this.#message ??= fromBinary(IngestEventResponseSchema, this.bytes);
    return this.#message;
  }
  get eventId(): string {
    return this.message.eventId;
  }
  get duplicate(): boolean {
    return this.message.duplicate;
  }
  get receivedAt(): Timestamp | undefined {
    return this.message.receivedAt;
  }
  get processingStatus(): ProcessingStatus {
    return this.message.processingStatus;
  }
  get clockSkew(): Duration | undefined {
    return this.message.clockSkew;
  }
}

/** The answer after the commit. Throws CONFLICT. */
export function singleAnswer(row: EventRow, result: BatchResult): IngestEventResponse {
  const { id, message } = outcomeOf(row, result);
  if (row.status === "conflict") throw failure(ErrorReason.CONFLICT, message, { metadata: { id } });
  return create(IngestEventResponseSchema, {
    eventId: id,
    duplicate: row.status === "duplicate",
    receivedAt: row.firstId ? timestampFromDate(timeOfUuidv7(row.firstId)) : timestampFromMs(receivedMs(row)),
    processingStatus: ProcessingStatus.QUEUED,
    clockSkew: durationFromMs(result.skewMs),
  });
}

/** The same, encoded where it is the usual one. */
export function encodedSingleAnswer(row: EventRow, result: BatchResult): IngestEventResponse {
  return row.status === "accepted" && result.skewMs === 0
    ? new EncodedEventAnswer(encodeAccepted(row))
    : singleAnswer(row, result);
}

const receivedMs = ({ numbers, base }: EventRow) => timeOfId(numbers, base + slot.id);

/** Bytes of all but the id: its tag and length, the time, the status, and the skew, which is nothing and said to be. */
const mostOthers = 3 + (2 + 6 + 6) + 2 + 2;

function encodeAccepted(row: EventRow): Uint8Array {
  const start = row.at(slot.eventId);
  const end = row.at(slot.eventId + 1);
  const idLength = end - start || 36;
  const target = Buffer.allocUnsafe(mostOthers + idLength);
  target[0] = 0x0a;
  let at = writeVarint(target, 1, idLength);
  if (end === start) at = writeUuidText(target, at, row.numbers, row.base + slot.id);
  else for (let from = start; from < end; from++) target[at++] = row.bytes[from] as number;
  const ms = receivedMs(row);
  target[at] = 0x1a;
  const time = at + 2;
  target[time] = 0x08;
  let stop = writeVarint(target, time + 1, Math.floor(ms / 1_000));
  const nanos = (ms % 1_000) * 1_000_000;
  if (nanos > 0) {
    target[stop] = 0x10;
    stop = writeVarint(target, stop + 1, nanos);
  }
  target[at + 1] = stop - time;
  at = stop;
  target[at++] = 0x20;
  target[at++] = ProcessingStatus.QUEUED;
  target[at++] = 0x2a;
  target[at++] = 0;
  return target.subarray(0, at);
}
