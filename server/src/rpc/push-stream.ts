/**
 * A server stream that is pushed: what a handler returns where many watchers get the same messages. Messages go straight
 * into the sink of each watcher, without an async iterator per message, and the same message object may go to all of them,
 * so that it is encoded once.
 */
import type { StreamHooks } from "./stream.ts";

/** Where the messages of one watcher go. */
export interface Sink<T> {
  /** Takes a message; false when the reader is behind: then no more until `onDrain`, or `end` with SLOW_READER. */
  write(message: T): boolean;
  /** Ends the stream: well, or with an error for the caller. Later calls of `write` and `end` do nothing. */
  end(error?: unknown): void;
  /** Called once, when the reader has caught up after a `write` that returned false. */
  onDrain(listener: () => void): void;
}

/** Begins to push into a sink and returns what stops it, which is called once, however the stream ended. */
export type StartPushing<T> = (sink: Sink<T>) => () => void;

/**
 * A stream of pushed messages, for one call. The lean path of the listener calls `start`; for everything else it is an async
 * iterable, which holds at most `highWater` messages for a reader that is behind.
 */
export class PushStream<T> implements AsyncIterable<T> {
  readonly #push: StartPushing<T>;
  readonly #highWater: number;
  #hooks: StreamHooks<T>[] | undefined;
  #sink: Sink<T> | undefined;

  constructor(start: StartPushing<T>, highWater = 16) {
    this.#push = start;
    this.#highWater = highWater;
  }

  /** Pushes into a sink until what is returned is called. Only once: another call has a stream of its own. */
  start(sink: Sink<T>): () => void {
    if (this.#sink) throw new Error("a pushed stream belongs to one call");
    if (!this.#hooks) {
      this.#sink = sink;
      return this.#push(sink);
    }
    const hooked = new HookedSink(sink, this.#hooks);
    this.#sink = hooked;
    const stop = this.#push(hooked);
    return () => {
      hooked.over();
      stop();
    };
  }

  /** Ends the stream from without, once it has started. */
  end(error?: unknown): void {
    this.#sink?.end(error);
  }

  /** Passes the messages through `onMessage` and the end through the other hooks; for interceptors. */
  tapped(hooks: StreamHooks<T>): this {
    this.#hooks ??= [];
    this.#hooks.push(hooks);
    return this;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    const waiting: T[] = [];
    let ended: { readonly error: unknown } | undefined;
    let drained: (() => void) | undefined;
    let wake = () => {};
    const stop = this.start({
      write: (message) => {
        if (ended) return true;
        waiting.push(message);
        wake();
        return waiting.length < this.#highWater;
      },
      end(error) {
        ended ??= { error };
        wake();
      },
      onDrain(listener) {
        drained = listener;
      },
    });
    try {
      for (;;) {
        const next = waiting.shift();
        if (next !== undefined) {
          yield next;
          if (waiting.length === 0 && drained) {
            const listener = drained;
            drained = undefined;
            listener();
          }
        } else if (ended) {
          if (ended.error !== undefined) throw ended.error;
          return;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      stop();
    }
  }
}

/** Passes on through the hooks, the innermost first. */
class HookedSink<T> implements Sink<T> {
  readonly #sink: Sink<T>;
  readonly #hooks: readonly StreamHooks<T>[];
  #isOver = false;

  constructor(sink: Sink<T>, hooks: readonly StreamHooks<T>[]) {
    this.#sink = sink;
    this.#hooks = hooks;
  }

  write(message: T): boolean {
    if (this.#isOver) return true;
    try {
      for (const hooks of this.#hooks) hooks.onMessage?.(message);
    } catch (error) {
      // It is the end of this watcher's stream, and no concern of whoever pushes to all.
      this.end(error);
      return true;
    }
    return this.#sink.write(message);
  }

  end(error?: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    let shown = error;
    for (const hooks of this.#hooks) {
      if (hooks.onFinish) shown = hooks.onFinish(shown);
      if (shown !== undefined && hooks.onError) shown = hooks.onError(shown);
      hooks.onEnd?.(shown);
    }
    this.#sink.end(shown);
  }

  onDrain(listener: () => void): void {
    this.#sink.onDrain(listener);
  }

  /** The reader has gone. */
  over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const hooks of this.#hooks) hooks.onEnd?.();
  }
}
