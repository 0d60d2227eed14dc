import { Call } from "../listener/lean/call.ts";
import { type Answer, type AnyRequest, type Next, settle } from "./interceptor.ts";
import { OneMessage } from "./one-message.ts";
import { PushStream } from "./push-stream.ts";

export interface StreamHooks<T> {
  /** Sees every message before it is handed on; may throw. */
  onMessage?: (message: T) => void;
  /** Turns an error of the stream into the one that is thrown on. */
  onError?: (error: unknown) => unknown;
  /** Called once when the stream is over, however it ended. */
  onEnd?: (error?: unknown) => void;
  /** Pushed streams only: decides what the stream ends with; undefined: well. */
  onFinish?: (error: unknown) => unknown;
}

/** Wraps a stream of messages; ends the source when the reader stops early. A pushed stream remains one. */
export function wrapStream<T>(source: AsyncIterable<T>, hooks: StreamHooks<T>): AsyncIterable<T> {
  return source instanceof PushStream || source instanceof OneMessage
    ? source.tapped(hooks)
    : wrapIterable(source, hooks);
}

/** Goes on, and tells when the call is over and with which error: a stream when its last message is through. */
export function observeEnd(next: Next, req: AnyRequest, ended: (error?: unknown) => void): Answer {
  return settle(
    next,
    req,
    (res) => {
      if (res.stream) return { ...res, message: wrapStream(res.message, { onEnd: ended }) };
      ended();
      return res;
    },
    (error) => {
      ended(error);
      throw error;
    },
  );
}

/** The request with other parts in place of its own, for the next interceptor. */
export function amended<R extends object>(req: R, parts: Partial<R>): R {
  // Those of the lean path make most of their parts only when they are asked for: a copy would lack them.
  return req instanceof Call ? Object.assign(req, parts) : { ...req, ...parts };
}

async function* wrapIterable<T>(source: AsyncIterable<T>, hooks: StreamHooks<T>): AsyncGenerator<T> {
  let failed: unknown;
  try {
    for await (const message of source) {
      hooks.onMessage?.(message);
      yield message;
    }
  } catch (error) {
    failed = hooks.onError ? hooks.onError(error) : error;
    throw failed;
  } finally {
    hooks.onEnd?.(failed);
  }
}
