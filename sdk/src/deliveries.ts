import { Batcher } from "./batcher.ts";
import type { BatcherOptions } from "./batcher-options.ts";
import type { Breaker } from "./breaker.ts";
import { warnOfDrops } from "./drops.ts";
import { ingestEvents, readOutcomes, toIngestRequest } from "./event-batches.ts";
import type {
  DropNotice,
  GatewayOptions,
  GatewayStore,
  ItemIdentity,
  ItemSettled,
} from "./gateway-options.ts";
import type { FinalOutcome } from "./outcome.ts";
import type { PackedEvent } from "./packed-event.ts";
import type { Item } from "./queue.ts";
import { type PackedReport, reportProgress, sendReports } from "./reports.ts";
import { defaultRetryPolicy } from "./retry.ts";
import {
  groupSamples,
  type QueuedSample,
  readSampleOutcomes,
  toSamplesRequest,
  writeSamples,
} from "./samples.ts";
import type { UnaryCaller } from "./unary/caller.ts";

/** The three kinds that a gateway delivers, each with a queue of its own. */
export interface Deliveries {
  events: Batcher<PackedEvent>;
  samples: Batcher<QueuedSample>;
  progress: Batcher<PackedReport>;
}

const defaultHighPriority = 8;
/** Reports of progress sent at the same time, a call each. */
const maxReports = 32;
/** What the client gives a call, which is what a probe has at most. */
const usualCallMs = 10_000;

/** Makes the queues of a gateway. */
export function createDeliveries(
  caller: UnaryCaller,
  breaker: Breaker,
  options: GatewayOptions,
  store: GatewayStore | undefined,
): Deliveries {
  const { storeId = "", timeoutMs, whenFull = "throw", highPriority = defaultHighPriority } = options;
  const shared = {
    maxItems: options.batch?.maxItems ?? 500,
    maxBytes: options.batch?.maxBytes ?? 1024 * 1024,
    maxDelayMs: options.batch?.maxDelayMs ?? 1_000,
    maxInFlight: options.maxInFlight ?? 2,
    maxQueueItems: options.queue?.maxItems ?? 100_000,
    maxQueueBytes: options.queue?.maxBytes ?? 64 * 1024 * 1024,
    whenFull,
    retry: { ...defaultRetryPolicy, ...options.retry },
    onRetry: options.onRetry && guard(options.onRetry),
  };
  const callOptions = (signal: AbortSignal, limitMs = Number.POSITIVE_INFINITY) => {
    const ms = limitMs < (timeoutMs ?? usualCallMs) ? limitMs : timeoutMs;
    return { signal, ...(ms !== undefined && { timeoutMs: ms }) };
  };
  const byPriority = whenFull === "drop-lowest-priority";
  return {
    events: new Batcher<PackedEvent>(
      {
        ...shared,
        ...listeners(options, "event", ({ id }) => ({ type: "event", eventId: id })),
        backlog: store?.events,
        levelOf: ({ priority }) => (byPriority ? priority : priority >= highPriority ? 1 : 0),
        send: async (events, signal, limitMs) => {
          try {
            const request = toIngestRequest(events);
            const answer = await caller.call(ingestEvents, request, callOptions(signal, limitMs));
            return readOutcomes(answer, events.length);
          } catch (error) {
            // The socket may be reading them still.
            for (const { page } of events) page.retire();
            throw error;
          }
        },
      },
      breaker,
    ),
    samples: new Batcher<QueuedSample>(
      {
        ...shared,
        ...listeners(options, "sample", ({ series: { name }, timeMs, value }) => ({
          type: "sample",
          name,
          timestamp: timeMs,
          value,
        })),
        backlog: store?.samples,
        send: async (samples, signal, limitMs) => {
          const groups = groupSamples(samples);
          const request = toSamplesRequest(groups, samples, storeId);
          const answer = await caller.call(writeSamples, [request], callOptions(signal, limitMs));
          return readSampleOutcomes(groups, samples.length, answer);
        },
      },
      breaker,
    ),
    progress: new Batcher<PackedReport>(
      {
        ...shared,
        ...listeners(options, "progress", ({ identity: { clientKrn, filename, updateId } }) => ({
          type: "progress",
          clientKrn,
          filename,
          updateId,
        })),
        maxItems: Math.min(shared.maxItems, maxReports),
        // What completes a file must not overtake the reports before it.
        maxInFlight: 1,
        ordered: true,
        backlog: store?.progress,
        send: (reports, signal, limitMs) =>
          sendReports(reports, (request) =>
            caller.call(reportProgress, [request], callOptions(signal, limitMs)),
          ),
      },
      breaker,
    ),
  };
}

/** What a batcher tells, in the words of the gateway's hooks. */
function listeners<T extends Item>(
  { onOutcome, onDrop = warnOfDrops() }: GatewayOptions,
  type: DropNotice["type"],
  identify: (item: T) => ItemIdentity,
): Pick<BatcherOptions<T>, "onOutcome" | "onDrop"> {
  const settled = onOutcome && guard((outcome: ItemSettled) => onOutcome(outcome));
  const dropped = guard((drop: DropNotice) => onDrop(drop));
  return {
    onOutcome: settled && ((item: T, outcome: FinalOutcome) => settled({ ...identify(item), ...outcome })),
    onDrop: (reason, count, message) => dropped({ type, reason, count, message }),
  };
}

/** A hook that throws is an uncaught exception, as in any event handler; it must not stop the delivery. */
function guard<T>(hook: (value: T) => void): (value: T) => void {
  return (value) => {
    try {
      hook(value);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  };
}
