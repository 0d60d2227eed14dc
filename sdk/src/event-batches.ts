import { fromBinary } from "@bufbuild/protobuf";
import type { GenService } from "@bufbuild/protobuf/codegenv2";
import { WireType } from "@bufbuild/protobuf/wire";
import { type Empty, EmptySchema } from "@bufbuild/protobuf/wkt";
import { ItemOutcomeSchema, OutcomeStatus } from "./gen/pulsewire/common/v1/outcome_pb.js";
import {
  type IngestEventsRequestSchema,
  IngestEventsResponseSchema,
} from "./gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "./gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { accepted, duplicate, fromItemOutcome, type SendOutcome } from "./outcome.ts";

/** Of a {@link PulsewireClient}: the client of {@link EventBatchService}. */
export const eventBatches = Symbol("eventBatches");

/**
 * IngestEvents as a gateway calls it: the answer is left as it came, in unknown fields, for nearly all of its outcomes
 * say the same, and what they would be decoded to is more than all else that a batch costs.
 */
export const EventBatchService = /* @__PURE__ */ makeService() as unknown as GenService<{
  ingestEvents: {
    methodKind: "unary";
    input: typeof IngestEventsRequestSchema;
    output: typeof EmptySchema;
  };
}>;

/** By a function, so that bundlers can leave it out where there is no gateway. */
function makeService() {
  const ingestEvents = { ...IngestionService.method.ingestEvents, output: EmptySchema };
  return { ...IngestionService, methods: [ingestEvents], method: { ingestEvents } };
}

/** No field has this number: behind it stands the whole answer, undivided. */
export const wholeAnswer = 0;

/** The outcome of each event, in order. */
export function readOutcomes({ $unknown = [] }: Empty): SendOutcome[] {
  const outcomes: SendOutcome[] = [];
  for (const { no, data } of $unknown) {
    if (no === wholeAnswer) return readAnswer(data);
    if (no === outcomesNumber) outcomes.push(readOutcome(data, afterVarint(data, 0), data.length));
  }
  return outcomes;
}

const outcomesNumber = /* @__PURE__ */ (() => IngestEventsResponseSchema.field.outcomes.number)();
/** Tag of an outcome in the answer, and of the status, the first field of an ItemOutcome. */
const outcomeTag = 0x12;
const statusTag = 0x08;

/** An IngestEventsResponse. All fields of this version have tags of one byte, and a length. */
function readAnswer(data: Uint8Array): SendOutcome[] {
  const outcomes: SendOutcome[] = [];
  for (let at = 0; at < data.length; ) {
    const tag = data[at] as number;
    if (tag > 0x7f || (tag & 7) !== WireType.LengthDelimited) {
      return fromBinary(IngestEventsResponseSchema, data).outcomes.map(fromItemOutcome);
    }
    const start = afterVarint(data, at + 1);
    at = start + varint(data, at + 1);
    if (tag === outcomeTag) outcomes.push(readOutcome(data, start, at));
  }
  return outcomes;
}

function readOutcome(data: Uint8Array, start: number, end: number): SendOutcome {
  if (data[start] === statusTag) {
    if (data[start + 1] === OutcomeStatus.ACCEPTED) return accepted;
    if (data[start + 1] === OutcomeStatus.DUPLICATE) return duplicate;
  }
  return fromItemOutcome(fromBinary(ItemOutcomeSchema, data.subarray(start, end)));
}

function afterVarint(data: Uint8Array, start: number): number {
  let at = start;
  while ((data[at++] as number) > 0x7f);
  return at;
}

function varint(data: Uint8Array, start: number): number {
  let [value, at] = [0, start];
  for (let shift = 0; ; shift += 7) {
    const byte = data[at++] as number;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte <= 0x7f) return value;
  }
}
