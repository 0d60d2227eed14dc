/**
 * Interceptors as this service writes them: those of Connect, but what waits for nothing answers at once. On the lean path a
 * call of a known caller reaches its handler without a promise; connect-node, which awaits every answer, sees no difference.
 */
import type {
  Interceptor as ConnectInterceptor,
  StreamRequest,
  StreamResponse,
  UnaryRequest,
  UnaryResponse,
} from "@connectrpc/connect";

export type AnyRequest = UnaryRequest | StreamRequest;
export type AnyResponse = UnaryResponse | StreamResponse;
export type Answer = AnyResponse | Promise<AnyResponse>;
export type Next = (req: AnyRequest) => Answer;

/** Runs around every call: may look at the request, answer by itself, and see the answer or the error. */
export type Interceptor = (next: Next) => Next;

/** One function of the interceptors, the first one outermost, and what they stand around. */
export function around(interceptors: readonly Interceptor[], handler: Next): Next {
  return interceptors.reduceRight((next, interceptor) => interceptor(next), handler);
}

/** The interceptors for connect-node. */
export function forConnect(interceptors: readonly Interceptor[]): ConnectInterceptor {
  return (next) => {
    const all = around(interceptors, next);
    return async (req) => await all(req);
  };
}

/** Goes on, and hands what comes of it to one of the two, now or later. What they throw themselves, neither gets. */
export function settle(
  next: Next,
  req: AnyRequest,
  onAnswer: (answer: AnyResponse) => Answer,
  onError: (error: unknown) => Answer,
): Answer {
  let answer: Answer;
  try {
    answer = next(req);
  } catch (error) {
    return onError(error);
  }
  return isPromise(answer) ? answer.then(onAnswer, onError) : onAnswer(answer);
}

export function isPromise<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | undefined)?.then === "function";
}
