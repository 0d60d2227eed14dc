import { type DescMethod, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Interceptor, UnaryResponse } from "@connectrpc/connect";
import { requestKeyOf, takesRequestId } from "../idempotency/key.ts";
import { type Once, runOnce } from "../idempotency/once.ts";
import { sealOf } from "../idempotency/seal.ts";
import type { KeyRing } from "../keyring.ts";
import { callerKey } from "./caller.ts";

/** Says that an answer is the kept one of an earlier call. */
export const replayedHeader = "idempotent-replayed";

/**
 * A unary mutation with a request id, in the field `request_id` or the header `Idempotency-Key`, takes effect once: a
 * repetition gets the same answer, with the header `idempotent-replayed: true`. Calls without one pass. So do methods
 * whose items carry ids of their own (IngestEvent, IngestEvents, WriteSamples, ReportProgress), streams and reads: the
 * header is accepted and says nothing there.
 *
 * Stands innermost, so that a repetition is authenticated, authorized and validated like any call.
 */
export function idempotencyInterceptor(once: Once, keyring: KeyRing): Interceptor {
  const pepper = keyring.derive("idempotency");
  const keyed = new WeakMap<DescMethod, boolean>();
  return (next) => async (req) => {
    if (req.stream) return next(req);
    let takes = keyed.get(req.method);
    if (takes === undefined) {
      takes = takesRequestId(req.method);
      keyed.set(req.method, takes);
    }
    const requestKey = takes
      ? requestKeyOf(req.method, req.message, req.header, req.contextValues.get(callerKey))
      : undefined;
    if (!requestKey) return next(req);
    const { method } = req;
    const { answer, replayed } = await runOnce<UnaryResponse>(once, {
      key: requestKey.key,
      seal: sealOf(requestKey, pepper),
      signal: req.signal,
      run: async () => (await next(req)) as UnaryResponse,
      encode: ({ message }) => toBinary(method.output, message),
      decode: (bytes) => ({
        stream: false,
        service: req.service,
        method,
        header: new Headers(),
        trailer: new Headers(),
        message: fromBinary(method.output, bytes),
      }),
    });
    if (replayed) answer.header.set(replayedHeader, "true");
    return answer;
  };
}
