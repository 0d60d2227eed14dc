import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { OutcomeStatus } from "../../sdk/src/gen/pulsewire/common/v1/outcome_pb.js";
import { IngestionService } from "../../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import type { Answer, Ledger, SentCall, SentEvent } from "./ledger.ts";

export type IngestionClient = Client<typeof IngestionService>;

/** A gRPC client with a connection of its own, which ends with the scope. */
export function ingestionClient(url: string, apiKey: string) {
  const sessionManager = new Http2SessionManager(url);
  const transport = createGrpcTransport({
    baseUrl: url,
    sessionManager,
    interceptors: [
      (next) => (req) => {
        req.header.set("x-api-key", apiKey);
        return next(req);
      },
    ],
  });
  return {
    ingestion: createClient(IngestionService, transport) as IngestionClient,
    [Symbol.dispose]: () => sessionManager.abort(),
  };
}

const answers: Record<OutcomeStatus, Answer> = {
  [OutcomeStatus.UNSPECIFIED]: "rejected",
  [OutcomeStatus.ACCEPTED]: "accepted",
  [OutcomeStatus.DUPLICATE]: "duplicate",
  [OutcomeStatus.CONFLICT]: "conflict",
  [OutcomeStatus.REJECTED]: "rejected",
  [OutcomeStatus.RETRY]: "retry",
};

/** Sends a call and notes its answer. Throws a ConnectError when there is none. */
export async function send(ingestion: IngestionClient, ledger: Ledger, call: SentCall): Promise<void> {
  const knownBefore = call.events.map((event) => event.answers.length > 0);
  const requests = call.events.map(({ eventId, eventType, message }) => ({
    eventId,
    eventType,
    message,
    // The same whenever it is sent again.
    userId: `user-${eventId.slice(0, 2)}`,
    sessionId: `session-${eventId.slice(0, 3)}`,
    metrics: { [`digit-${eventId[0]}`]: eventId.charCodeAt(1) },
  }));
  if (call.single) {
    const { duplicate } = await ingestion.ingestEvent({ event: requests[0] as (typeof requests)[0] });
    ledger.close(call, [duplicate ? "duplicate" : "accepted"], knownBefore);
  } else {
    const { outcomes } = await ingestion.ingestEvents({ events: requests });
    ledger.close(
      call,
      outcomes.map(({ status }) => answers[status]),
      knownBefore,
    );
  }
}

export interface LoadOptions {
  readonly ingestion: IngestionClient;
  readonly ledger: Ledger;
  /** Ends the load; calls under way are waited for. */
  readonly until: AbortSignal;
  /** Sees the error of a call that got no answer; throws to make it a violation. */
  onFailure(error: ConnectError): void;
}

const singleCallers = 12;
const batchCallers = 4;
const maxBatch = 500;
const pauseAfterFailureMs = 20;

/**
 * Callers of every kind side by side, until told to stop: single events, now and then one that was acknowledged before;
 * batches; and the same batch over two calls at once.
 */
export async function runLoad(options: LoadOptions): Promise<void> {
  const { ledger } = options;
  const acknowledged: SentEvent[] = [];
  const single = async () => {
    const earlier = Math.random() < 0.05 && acknowledged[Math.floor(Math.random() * acknowledged.length)];
    const call = earlier ? ledger.openAgain([earlier], true) : ledger.open(1, true);
    await attempt(options, call);
    if (call.answered) acknowledged.push(...call.events);
  };
  const batch = () => attempt(options, ledger.open(randomSize()));
  const twins = async () => {
    const call = ledger.open(randomSize());
    await Promise.all([attempt(options, call), attempt(options, ledger.openAgain(call.events, false))]);
  };
  const callers = [
    ...Array<() => Promise<void>>(singleCallers).fill(single),
    ...Array<() => Promise<void>>(batchCallers).fill(batch),
    twins,
  ];
  await Promise.all(
    callers.map(async (caller) => {
      while (!options.until.aborted) await caller();
    }),
  );
}

const randomSize = () => 1 + Math.floor(Math.random() * maxBatch);

async function attempt(options: LoadOptions, call: SentCall): Promise<void> {
  try {
    await send(options.ingestion, options.ledger, call);
  } catch (error) {
    const failure = ConnectError.from(error);
    if (decided.has(failure.code)) {
      options.ledger.violations.push(`a valid call was refused: ${failure.message}`);
    } else {
      options.onFailure(failure);
    }
    await sleep(pauseAfterFailureMs);
  }
}

/** A server that fails may leave a call undecided; these would be a decision against it. */
const decided = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.PermissionDenied,
  Code.Unauthenticated,
  Code.FailedPrecondition,
  Code.Unimplemented,
  Code.DataLoss,
  Code.OutOfRange,
]);
