import type { StreamHooks } from "./stream.ts";

/**
 * The request of a method that answers with a stream: one message that is there already. For interceptors it is a stream
 * as any other.
 */
export class OneMessage<T> implements AsyncIterable<T> {
  readonly #message: T;
  readonly #hooks: readonly StreamHooks<T>[];

  constructor(message: T, hooks: readonly StreamHooks<T>[] = []) {
    this.#message = message;
    this.#hooks = hooks;
  }

  /** The message, with hooks that see it when it is taken. */
  tapped(hooks: StreamHooks<T>): OneMessage<T> {
    return new OneMessage(this.#message, [...this.#hooks, hooks]);
  }

  /** Gives the message to whoever handles it. */
  take(): T {
    let failed: { error: unknown } | undefined;
    for (const { onMessage, onError, onEnd } of this.#hooks) {
      try {
        if (!failed) onMessage?.(this.#message);
      } catch (error) {
        failed = { error };
      }
      if (failed && onError) failed = { error: onError(failed.error) };
      onEnd?.(failed?.error);
    }
    if (failed) throw failed.error;
    return this.#message;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    yield this.take();
  }
}
