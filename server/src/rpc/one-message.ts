import type { StreamHooks } from "./stream.ts";

/**
 * The request of a method that answers with a stream: one message that is there already. For interceptors it is a stream
 * as any other.
 */
export class OneMessage<T> implements AsyncIterable<T> {
  readonly #message: T;
  readonly #hooks: StreamHooks<T>[] = [];

  constructor(message: T) {
    this.#message = message;
  }

  /** Adds hooks that see the message when it is taken. */
  tapped(hooks: StreamHooks<T>): this {
    this.#hooks.push(hooks);
    return this;
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
