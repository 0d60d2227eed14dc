/**
 * A server stream that is pushed: what a handler returns where many watchers get the same messages. Messages go straight
 * into the sink of each watcher, without an async iterator per message, and the same message object may go to all of them,
 * so that it is encoded once.
 */

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
 * A stream of pushed messages. The lean path of the listener calls `start`; for everything else it is an async iterable,
 * which holds at most `highWater` messages for a reader that is behind.
 */
export class PushStream<T> implements AsyncIterable<T> {
  readonly start: StartPushing<T>;
  readonly #highWater: number;

  constructor(start: StartPushing<T>, highWater = 16) {
    this.start = start;
    this.#highWater = highWater;
  }

  /** The same stream with its messages passed through `onMessage` and its end through `onEnd`; for interceptors. */
  tapped(hooks: {
    onMessage?: (message: T) => void;
    onError?: (error: unknown) => unknown;
    onEnd?: (error?: unknown) => void;
  }): PushStream<T> {
    return new PushStream<T>((sink) => {
      let ended = false;
      const over = (error?: unknown) => {
        if (ended) return;
        ended = true;
        hooks.onEnd?.(error);
      };
      const stop = this.start({
        write(message) {
          hooks.onMessage?.(message);
          return sink.write(message);
        },
        end(error) {
          const shown = error !== undefined && hooks.onError ? hooks.onError(error) : error;
          over(shown);
          sink.end(shown);
        },
        onDrain: (listener) => sink.onDrain(listener),
      });
      return () => {
        over();
        stop();
      };
    }, this.#highWater);
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
