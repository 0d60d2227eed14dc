import { readFields } from "./message-reader.ts";
import { MessageWriter } from "./message-writer.ts";
import { accepted, duplicate, readItemOutcome, type SendOutcome } from "./outcome.ts";
import type { PackedEvent } from "./packed-event.ts";

/** The method that takes events. */
export const ingestEvents = "/pulsewire.ingestion.v1.IngestionService/IngestEvents";

/**
 * The IngestEventsRequest for a batch, in pieces: the events where they lie, those behind each other as one piece, and then
 * all else. With `sentAt`, so that the server can correct a clock that is wrong. Without outcomes where all is accepted.
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
    pieces.push(page.bytes.subarray(start, end));
  }
  pieces.push(new MessageWriter().flag(2, true).timestamp(3, Date.now()).flag(4, true).finish());
  return pieces;
}

/**
 * The outcome of each event, in order, from an IngestEventsResponse. Where it has none its counts say that all was
 * accepted.
 *
 * @param sent how many were sent
 */
export function readOutcomes(response: Uint8Array, sent: number): readonly SendOutcome[] {
  const outcomes: SendOutcome[] = [];
  let acceptedCount = 0;
  readFields(response, (field, { bytes }) => {
    if (field === 1) acceptedCount = readAccepted(bytes);
    else if (field === 2) outcomes.push(quickOutcome(bytes) ?? readItemOutcome(bytes));
  });
  return outcomes.length === 0 && acceptedCount === sent ? allAccepted(sent) : outcomes;
}

/** One array for many batches: most have the same number. */
let lastAccepted: readonly SendOutcome[] = [];

function allAccepted(count: number): readonly SendOutcome[] {
  if (lastAccepted.length !== count) lastAccepted = new Array<SendOutcome>(count).fill(accepted);
  return lastAccepted;
}

/** Of OutcomeCounts. */
function readAccepted(counts: Uint8Array): number {
  let read = 0;
  readFields(counts, (field, { number }) => {
    if (field === 2) read = number;
  });
  return read;
}

/** The status is the first field of an ItemOutcome; 1 is accepted, 2 a duplicate. */
function quickOutcome(bytes: Uint8Array): SendOutcome | undefined {
  if (bytes[0] !== 0x08) return undefined;
  return bytes[1] === 1 ? accepted : bytes[1] === 2 ? duplicate : undefined;
}
