interface StreamHooks<T> {
  /** Sees every message before it is handed on; may throw. */
  onMessage?: (message: T) => void;
  /** Turns an error of the stream into the one that is thrown on. */
  onError?: (error: unknown) => unknown;
  /** Called once when the stream is over, however it ended. */
  onEnd?: (error?: unknown) => void;
}

/** Wraps a stream of messages; ends the source when the reader stops early. */
export async function* wrapStream<T>(source: AsyncIterable<T>, hooks: StreamHooks<T>): AsyncGenerator<T> {
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
