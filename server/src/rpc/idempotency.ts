import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { type RequestKey, requestKeyOf, takesRequestId } from "../idempotency/key.ts";
import { type Once, runOnce } from "../idempotency/once.ts";
import { sealOf } from "../idempotency/seal.ts";
import type { KeyRing } from "../keyring.ts";
import { callerKey } from "./caller.ts";

/** Says that an answer is the kept one of an earlier call. */
export const replayedHeader = "idempotent-replayed";

type Answer = MessageInitShape<DescMessage>;
type UnaryHandler = (request: MessageShape<DescMessage>, context: HandlerContext) => Promise<Answer> | Answer;

/**
 * Wraps the handlers of a service: a unary mutation with a request id, in the field `request_id` or the header
 * `Idempotency-Key`, takes effect once, and a repetition gets the same answer, with the header
 * `idempotent-replayed: true`. Calls without one pass. So do methods whose items carry ids of their own (IngestEvent,
 * IngestEvents, WriteSamples, ReportProgress), streams and reads: the header is accepted and says nothing there.
 *
 * Around the handlers and inside all interceptors, so that a repetition is authenticated, authorized and validated as
 * any call is. (And an interceptor that answers by itself would not know the headers of the protocol.)
 */
export function withRequestIds<S extends DescService>(
  service: S,
  handlers: Partial<ServiceImpl<S>>,
  once: Once,
  keyring: KeyRing,
): Partial<ServiceImpl<S>> {
  const pepper = keyring.derive("idempotency");
  const wrapped: Record<string, unknown> = { ...handlers };
  for (const method of service.methods) {
    const handler = wrapped[method.localName];
    if (handler && takesRequestId(method)) {
      wrapped[method.localName] = keyed(method, handler as UnaryHandler, once, pepper);
    }
  }
  return wrapped as Partial<ServiceImpl<S>>;
}

function keyed(
  method: DescMethod,
  handler: UnaryHandler,
  once: Once,
  pepper: Buffer | undefined,
): UnaryHandler {
  const { output } = method;
  const runKeyed = async (
    requestKey: RequestKey,
    request: MessageShape<DescMessage>,
    context: HandlerContext,
  ) => {
    const { answer, replayed } = await runOnce<Answer>(once, {
      key: requestKey.key,
      seal: sealOf(requestKey, pepper),
      signal: context.signal,
      run: async () => handler(request, context),
      encode: (message) => toBinary(output, create(output, message)),
      decode: (bytes) => fromBinary(output, bytes),
    });
    if (replayed) context.responseHeader.set(replayedHeader, "true");
    return answer;
  };
  // Without a promise of its own where there is no key.
  return (request, context) => {
    const requestKey = requestKeyOf(method, request, context.requestHeader, context.values.get(callerKey));
    return requestKey ? runKeyed(requestKey, request, context) : handler(request, context);
  };
}
