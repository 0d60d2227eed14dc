import type { DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import { toPulsewireError } from "./errors.ts";

/**
 * A client whose calls reject with PulsewireError and whose unary calls have a deadline by default.
 * Streams have none: many are meant to stay open.
 */
export function createServiceClient<S extends DescService>(
  service: S,
  transport: Transport,
  timeoutMs: number,
): Client<S> {
  const inner = createClient(service, transport) as Record<string, Call>;
  const outer: Record<string, Call> = {};
  for (const { localName, methodKind } of service.methods) {
    const call = inner[localName] as Call;
    outer[localName] =
      methodKind === "unary"
        ? (request, options) => promise(call(request, { timeoutMs, ...options }) as Promise<unknown>)
        : methodKind === "client_streaming"
          ? (request, options) => promise(call(request, options) as Promise<unknown>)
          : (request, options) => iterate(call(request, options) as AsyncIterable<unknown>);
  }
  return outer as Client<S>;
}

type Call = (request: unknown, options?: CallOptions) => unknown;

async function promise<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw toPulsewireError(error);
  }
}

async function* iterate<T>(answers: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* answers;
  } catch (error) {
    throw toPulsewireError(error);
  }
}
