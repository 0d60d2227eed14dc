/** How the lean path reads and writes the messages of ingestion. */
import type { DescMethod } from "@bufbuild/protobuf";
import { IngestionService } from "../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import type { Decoder, Encoder } from "../listener/lean/method.ts";
import { EncodedAnswer } from "./answer.ts";
import type { EventReader } from "./read-event.ts";
import { requestDecoders } from "./request-scan.ts";

const { ingestEvent, ingestEvents } = IngestionService.method;

/** Reads events where they lie. */
export function ingestionDecoders(reader: EventReader): ReadonlyMap<DescMethod, Decoder> {
  const decoders = requestDecoders(reader);
  return new Map<DescMethod, Decoder>([
    [ingestEvent, decoders.ingestEvent],
    [ingestEvents, decoders.ingestEvents],
  ]);
}

/** Sends answers that are encoded already. */
export const ingestionEncoders: ReadonlyMap<DescMethod, Encoder> = new Map<DescMethod, Encoder>([
  [ingestEvents, (message) => (message instanceof EncodedAnswer ? message.bytes : undefined)],
]);
