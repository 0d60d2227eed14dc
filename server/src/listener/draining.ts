import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";

/** The time after which a refused client should try again: another server, or this one after its restart. */
const retryAfterSeconds = 1;
/** Time for a handler to end its stream by itself once its signal is aborted, for example with a last message. */
const lastWordMs = 100;

/**
 * The error that ends streams and refuses calls while the server shuts down: UNAVAILABLE with reason DRAINING. Abort the
 * shutdown signal with it.
 */
export function drainingError(): ConnectError {
  return new ConnectError(
    "the server is shutting down: connect again, with the last cursor if this was a stream",
    Code.Unavailable,
    { "retry-after": String(retryAfterSeconds) },
    [
      { desc: ErrorInfoSchema, value: { reason: "DRAINING", domain: "pulsewire" } },
      { desc: RetryInfoSchema, value: { retryDelay: { seconds: BigInt(retryAfterSeconds) } } },
    ],
  );
}

/** The reason of an aborted shutdown signal as an error for clients. */
export function shutdownError(signal: AbortSignal): ConnectError {
  return signal.reason instanceof ConnectError ? signal.reason : drainingError();
}

/**
 * Ends open streams when the server shuts down: their signal is aborted, and they end with {@link shutdownError} even if
 * the handler does not look at its signal. Single calls are left to finish.
 */
export function endStreamsOnShutdown(shutdown: AbortSignal): Interceptor {
  const open = new Set<(error: ConnectError) => void>();
  shutdown.addEventListener("abort", () => {
    const error = shutdownError(shutdown);
    for (const end of open) end(error);
  });

  return (next) => async (req) => {
    if (!req.stream) return next(req);
    const call = new AbortController();
    const onCancel = () => call.abort(req.signal.reason);
    if (req.signal.aborted) onCancel();
    else req.signal.addEventListener("abort", onCancel, { once: true });

    let shutDown: ConnectError | undefined;
    let cutOff: (error: ConnectError) => void = () => {};
    const cut = new Promise<never>((_, reject) => {
      cutOff = reject;
    });
    cut.catch(() => {});
    const end = (error: ConnectError) => {
      shutDown = error;
      call.abort(error);
      setTimeout(cutOff, lastWordMs, error);
    };
    open.add(end);
    const close = () => {
      open.delete(end);
      req.signal.removeEventListener("abort", onCancel);
    };

    try {
      const res = await Promise.race([next({ ...req, signal: call.signal }), cut]);
      if (!res.stream) return res;
      const endsInError = req.method.methodKind !== "client_streaming";
      return { ...res, message: guard(res.message, cut, close, () => shutDown, endsInError) };
    } catch (error) {
      close();
      throw shutDown ?? error;
    }
  };
}

/** Passes messages on until `cut` rejects; what ends after the shutdown ends with its error. */
function guard<T>(
  messages: AsyncIterable<T>,
  cut: Promise<never>,
  close: () => void,
  shutDown: () => ConnectError | undefined,
  endsInError: boolean,
): AsyncIterable<T> {
  const source = messages[Symbol.asyncIterator]();
  const iterator: AsyncIterator<T> = {
    async next() {
      try {
        const result = await Promise.race([source.next(), cut]);
        if (!result.done) return result;
        const error = shutDown();
        if (error !== undefined && endsInError) throw error;
        close();
        return result;
      } catch (error) {
        close();
        source.return?.().catch(() => {});
        throw shutDown() ?? error;
      }
    },
    async return(value) {
      close();
      return (await source.return?.(value)) ?? { done: true, value };
    },
    async throw(reason) {
      close();
      if (source.throw === undefined) throw reason;
      return source.throw(reason);
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
