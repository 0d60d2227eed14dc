/** How the lean path reads and writes the messages of ingestion. */
import type { DescMethod } from "@bufbuild/protobuf";
import { IngestionService } from "../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import type { Codec } from "../listener/lean/method.ts";
import { EncodedAnswer } from "./answer.ts";
import type { EventIngest } from "./ingest.ts";
import { requestDecoders, UnreadEvents } from "./request-scan.ts";
import { EncodedEventAnswer } from "./single-answer.ts";

/** What is no larger is read in no time. */
const smallBytes = 16_384;

const { ingestEvent, ingestEvents } = IngestionService.method;

/** Reads events where they lie, and sends answers that are encoded already. */
export function ingestionCodecs(events: EventIngest): ReadonlyMap<DescMethod, Codec> {
  const decoders = requestDecoders(events.reader);
  return new Map<DescMethod, Codec>([
    [
      ingestEvent,
      {
        readProto: decoders.ingestEvent,
        writeProto: (message) => (message instanceof EncodedEventAnswer ? message.bytes : undefined),
      },
    ],
    [
      ingestEvents,
      {
        readProto: (bytes) =>
          bytes.length > smallBytes && events.isFull() ? new UnreadEvents() : decoders.ingestEvents(bytes),
        writeProto: (message) => (message instanceof EncodedAnswer ? message.bytes : undefined),
      },
    ],
  ]);
}
