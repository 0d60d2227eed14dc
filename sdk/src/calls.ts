import type { DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import { explainBroken } from "./broken-connection.ts";
import { toPulsewireError } from "./connect-errors.ts";
import type { PulsewireError } from "./errors.ts";

/** What all calls of a client share. */
export interface CallContext {
  transport: Transport;
  /** Deadline of unary calls that name none, in milliseconds. */
  timeoutMs: number;
  /** Aborted when the client is closed. */
  closed: AbortSignal;
}

/**
 * A client whose calls reject with PulsewireError and whose unary calls have a deadline by default.
 * Streams have none: many are meant to stay open.
 */
export function createServiceClient<S extends DescService>(service: S, context: CallContext): Client<S> {
  const { transport, timeoutMs, closed } = context;
  const inner = createClient(service, transport) as Record<string, Call>;
  const outer: Record<string, Call> = {};
  for (const { localName, methodKind } of service.methods) {
    const call = inner[localName] as Call;
    outer[localName] = (request, options = {}) => {
      const cancelled = () => closed.aborted || options.signal?.aborted === true;
      if (methodKind === "unary") {
        return promise(call(request, { timeoutMs, ...options }) as Promise<unknown>, cancelled);
      }
      const left = new AbortController();
      const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
      const answer = call(request, { ...options, signal });
      return isIterable(answer) ? iterate(answer, cancelled, left) : promise(answer, cancelled);
    };
  }
  return outer as Client<S>;
}

type Call = (request: unknown, options?: CallOptions) => Promise<unknown> | AsyncIterable<unknown>;

function isIterable(answer: object): answer is AsyncIterable<unknown> {
  return Symbol.asyncIterator in answer;
}

async function promise<T>(answer: Promise<T>, cancelled: () => boolean): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw toCallError(error, cancelled());
  }
}

/** Connect's iterables do not notice that a loop was left; without the signal the call would stay open. */
async function* iterate<T>(
  answers: AsyncIterable<T>,
  cancelled: () => boolean,
  left: AbortController,
): AsyncGenerator<T> {
  try {
    yield* answers;
  } catch (error) {
    throw toCallError(error, cancelled());
  } finally {
    left.abort();
  }
}

function toCallError(thrown: unknown, cancelled: boolean): PulsewireError {
  const error = toPulsewireError(thrown);
  return cancelled ? error : explainBroken(error);
}
