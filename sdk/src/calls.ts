import type { DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, createClient, type Transport } from "@connectrpc/connect";
import { PulsewireError, toPulsewireError } from "./errors.ts";

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
    const defaults: CallOptions = methodKind === "unary" ? { timeoutMs } : {};
    outer[localName] = (request, options) => {
      const answer = call(request, { ...defaults, ...options });
      const cancelled = () => closed.aborted || options?.signal?.aborted === true;
      return isIterable(answer) ? iterate(answer, cancelled) : promise(answer, cancelled);
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

async function* iterate<T>(answers: AsyncIterable<T>, cancelled: () => boolean): AsyncGenerator<T> {
  try {
    yield* answers;
  } catch (error) {
    throw toCallError(error, cancelled());
  }
}

/** Connect calls it a cancellation when the connection breaks; where nobody cancelled, that misleads. */
function toCallError(thrown: unknown, cancelled: boolean): PulsewireError {
  const error = toPulsewireError(thrown);
  if (error.code !== Code.Canceled || cancelled) return error;
  const message = `The connection broke before the answer was complete: ${error.message}`;
  return new PulsewireError({ code: Code.Unavailable, message, cause: error });
}
