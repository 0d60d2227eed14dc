/** How the lean path reads and writes the messages of ingestion. */
import type { DescMethod } from "@bufbuild/protobuf";
import { IngestionService } from "../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import type { Decoder, Encoder } from "../listener/lean/method.ts";
import { EncodedAnswer } from "./answer.ts";
import type { EventIngest } from "./ingest.ts";
import { requestDecoders, UnreadEvents } from "./request-scan.ts";
import { EncodedEventAnswer } from "./single-answer.ts";

/** What is no larger is read in no time. */
const smallBytes = 16_384;

const { ingestEvent, ingestEvents } = IngestionService.method;

/** Reads events where they lie. */
export function ingestionDecoders(events: EventIngest): ReadonlyMap<DescMethod, Decoder> {
  const decoders = requestDecoders(events.reader);
  return new Map<DescMethod, Decoder>([
    [ingestEvent, decoders.ingestEvent],
    [
      ingestEvents,
      (bytes) =>
        bytes.length > smallBytes && events.isFull() ? new UnreadEvents() : decoders.ingestEvents(bytes),
    ],
  ]);
}

/** Sends answers that are encoded already. */
export const ingestionEncoders: ReadonlyMap<DescMethod, Encoder> = new Map<DescMethod, Encoder>([
  [ingestEvent, (message) => (message instanceof EncodedEventAnswer ? message.bytes : undefined)],
  [ingestEvents, (message) => (message instanceof EncodedAnswer ? message.bytes : undefined)],
]);
