/** StreamEvents: batches on one stream, each acknowledged after its commit, in order. */
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import type { StreamEventsRequest, StreamEventsResponse } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import { invalidField, toCallerError } from "../rpc/errors.ts";
import { type BatchResult, EncodedAnswer, encodeAnswer } from "./answer.ts";
import type { EventRow } from "./event-row.ts";
import type { EventIngest } from "./ingest.ts";

export interface StreamOptions {
  readonly events: EventIngest;
  readonly tenantId: string;
  /** For errors that are our fault. */
  readonly requestId: string;
  readonly maxBatchEvents: number;
  /** Batches of one stream that are written at once; more are left with the sender by flow control. */
  readonly window: number;
  /** Aborted when the server shuts down or the caller has gone: then nothing more is read. */
  readonly signal: AbortSignal;
}

type Answer = Omit<StreamEventsResponse, "$typeName">;

/**
 * Reads up to `window` batches ahead of the acknowledgements. A batch that is refused is acknowledged with an outcome for
 * each event, and the stream goes on; it ends with an error only where the stream itself is broken, after the
 * acknowledgements of all that came before.
 */
export async function* streamEvents(
  requests: AsyncIterable<StreamEventsRequest>,
  options: StreamOptions,
): AsyncGenerator<Answer> {
  const { window, signal } = options;
  const answers: Promise<Answer>[] = [];
  let inFlight = 0;
  let end: { readonly error: unknown } | undefined;
  let wakeWriter = () => {};
  let wakeReader = () => {};
  const finish = (error?: unknown) => {
    end ??= { error };
    wakeWriter();
    wakeReader();
  };
  const onAbort = () => finish(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });

  const read = async () => {
    let sequence = 0n;
    for await (const request of requests) {
      if (end) return;
      if (request.sequence !== ++sequence) {
        throw invalidField("sequence", `must be ${sequence}: it grows by one from 1`, "sequence.next");
      }
      const answer = answerBatch(request, options);
      // Whoever waits for it comes later.
      answer.catch(() => {});
      answers.push(answer);
      inFlight++;
      wakeWriter();
      while (inFlight >= window && !end) {
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
      }
    }
  };
  read().then(finish, finish);

  try {
    for (;;) {
      const next = answers.shift();
      if (next) {
        yield await next;
        inFlight--;
        wakeReader();
      } else if (end) {
        if (end.error !== undefined) throw end.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          wakeWriter = resolve;
        });
      }
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    finish();
  }
}

async function answerBatch(request: StreamEventsRequest, options: StreamOptions): Promise<Answer> {
  const { sequence, events, allowPartial, sentAt } = request;
  const { tenantId, requestId, maxBatchEvents } = options;
  const { reader, ingest } = options.events;
  const rows = events.map(reader.ofMessage);
  const answer = (result: BatchResult): Answer => {
    const { counts, outcomes, clockSkew } = new EncodedAnswer(encodeAnswer(result)).message;
    return {
      sequence,
      ...(counts && { counts }),
      outcomes,
      window: windowNow(options),
      clockSkew: clockSkew ?? durationFromMs(0),
    };
  };
  if (rows.length > maxBatchEvents) {
    const description = `the batch has more than ${maxBatchEvents} events; send several`;
    for (const row of rows) row.violations = [{ field: "", description, rule: "repeated.max_items" }];
  }
  try {
    const mayWrite = allowPartial || rows.every(({ violations }) => !violations);
    if (mayWrite && rows.length <= maxBatchEvents) {
      return answer(
        await ingest(tenantId, { rows, sentAt, allowPartial, path: (index) => `events[${index}]` }),
      );
    }
    return answer(refused(rows, 0, "another event of the batch is broken; send this one again without it"));
  } catch (error) {
    const shown = toCallerError(error, requestId);
    // A clock may turn out to be wrong only when it is corrected.
    if (rows.some(({ violations }) => violations)) {
      return answer(refused(rows, 0, "another event of the batch is broken; send this one again without it"));
    }
    const delayMs = retryDelayOf(shown);
    if (delayMs === undefined) throw shown;
    return answer(refused(rows, delayMs, shown.rawMessage));
  }
}

/** Nothing is written: what is broken is rejected, the rest may be sent again. */
function refused(rows: readonly EventRow[], retryDelayMs: number, retryReason: string): BatchResult {
  for (const row of rows) row.status = "retry";
  return { rows, receivedAtMs: Date.now(), skewMs: 0, retryDelayMs, retryReason };
}

function retryDelayOf(error: ConnectError): number | undefined {
  const [info] = error.findDetails(RetryInfoSchema);
  return info?.retryDelay && durationMs(info.retryDelay);
}

/** Under pressure senders are asked to hold back. */
function windowNow({ window, events }: StreamOptions): number {
  return events.isUnderPressure() ? 1 : window;
}
