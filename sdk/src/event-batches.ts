import type { PackedEvent } from "./events.ts";
import { readFields } from "./message-reader.ts";
import { MessageWriter } from "./message-writer.ts";
import { accepted, duplicate, readItemOutcome, type SendOutcome } from "./outcome.ts";

/** The method that takes events. */
export const ingestEvents = "/pulsewire.ingestion.v1.IngestionService/IngestEvents";

/**
 * The IngestEventsRequest for a batch, in pieces: the events where they lie, those behind each other as one piece, and then
 * all else. With `sentAt`, so that the server can correct a clock that is wrong.
 */
export function toIngestRequest(events: readonly PackedEvent[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let index = 0; index < events.length; ) {
    const { page, start, end: firstEnd } = events[index] as PackedEvent;
    let end = firstEnd;
    for (index++; index < events.length; index++) {
      const next = events[index] as PackedEvent;
      if (next.page !== page || next.start !== end) break;
      end = next.end;
    }
    pieces.push(page.subarray(start, end));
  }
  pieces.push(new MessageWriter().flag(2, true).timestamp(3, Date.now()).finish());
  return pieces;
}

/** The outcome of each event, in order, from an IngestEventsResponse. Nearly all of them say the same. */
export function readOutcomes(response: Uint8Array): SendOutcome[] {
  const outcomes: SendOutcome[] = [];
  readFields(response, (field, { bytes }) => {
    if (field === 2) outcomes.push(quickOutcome(bytes) ?? readItemOutcome(bytes));
  });
  return outcomes;
}

/** The status is the first field of an ItemOutcome; 1 is accepted, 2 a duplicate. */
function quickOutcome(bytes: Uint8Array): SendOutcome | undefined {
  if (bytes[0] !== 0x08) return undefined;
  return bytes[1] === 1 ? accepted : bytes[1] === 2 ? duplicate : undefined;
}
