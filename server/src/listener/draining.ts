import { Code, ConnectError, type StreamRequest } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import type { AnyResponse, Interceptor, Next } from "../rpc/interceptor.ts";
import { PushStream } from "../rpc/push-stream.ts";
import { amended } from "../rpc/stream.ts";
import { Call } from "./lean/call.ts";

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
  const open = new Set<OpenStream>();
  shutdown.addEventListener("abort", () => {
    const error = shutdownError(shutdown);
    for (const stream of open) stream.shutDown(error);
  });

  return (next) => (req) => (req.stream ? follow(next, req) : next(req));

  async function follow(next: Next, req: StreamRequest): Promise<AnyResponse> {
    // A lean call has a signal of its own, which is seldom asked for.
    const call: object = req;
    const stream = new OpenStream(call instanceof Call ? call : new LinkedSignal(req.signal), (ended) =>
      open.delete(ended),
    );
    open.add(stream);
    try {
      const guarded = call instanceof Call ? req : amended(req, { signal: stream.signal });
      const res = await stream.step(Promise.resolve(next(guarded)));
      if (!res.stream) return res;
      if (res.message instanceof PushStream) {
        guardPushed(res.message, stream);
        return res;
      }
      // A client that only sends has its whole answer when it gets a message.
      const endsInError = req.method.methodKind !== "client_streaming";
      return { ...res, message: guard(res.message, stream, endsInError) };
    } catch (error) {
      stream.close();
      throw stream.error ?? error;
    }
  }
}

/** What tells a handler that its call is over. */
interface Abortable {
  readonly signal: AbortSignal;
  abort(reason: unknown): void;
}

/** A signal that follows the client's until it is let go. */
class LinkedSignal implements Abortable {
  readonly #own = new AbortController();
  readonly #client: AbortSignal;
  readonly #onCancel = () => this.#own.abort(this.#client.reason);

  constructor(client: AbortSignal) {
    this.#client = client;
    if (client.aborted) this.#onCancel();
    else client.addEventListener("abort", this.#onCancel, { once: true });
  }

  get signal(): AbortSignal {
    return this.#own.signal;
  }
  abort(reason: unknown): void {
    this.#own.abort(reason);
  }
  release(): void {
    this.#client.removeEventListener("abort", this.#onCancel);
  }
}

/** A stream that may be told to end. */
class OpenStream {
  /** What the shutdown ends the stream with. */
  error: ConnectError | undefined;
  readonly #call: Abortable;
  readonly #onClose: (stream: OpenStream) => void;
  #isCut = false;
  // One step runs at a time. A promise to race against would gather a reaction for every message of the stream.
  #cutStep: ((error: ConnectError | undefined) => void) | undefined;

  constructor(call: Abortable, onClose: (stream: OpenStream) => void) {
    this.#call = call;
    this.#onClose = onClose;
  }

  /** Aborted when the client leaves or the server shuts down. */
  get signal(): AbortSignal {
    return this.#call.signal;
  }

  /** Whether the call itself ends what is pushed when the client leaves. */
  get isLean(): boolean {
    return this.#call instanceof Call;
  }

  /** Waits for what the handler does next, until it is cut off. */
  step<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#cutStep = reject;
      work.then(resolve, reject);
      if (this.#isCut) reject(this.error);
    });
  }

  /** Cuts a pushed stream off where it is. */
  onCut(cut: (error: ConnectError | undefined) => void): void {
    this.#cutStep = cut;
    if (this.#isCut) cut(this.error);
  }

  shutDown(error: ConnectError): void {
    this.error = error;
    this.#call.abort(error);
    setTimeout(() => {
      this.#isCut = true;
      this.#cutStep?.(error);
    }, lastWordMs).unref();
  }

  close(): void {
    if (this.#call instanceof LinkedSignal) this.#call.release();
    this.#onClose(this);
  }
}

/** The same for a stream whose messages are pushed. */
function guardPushed<T>(messages: PushStream<T>, stream: OpenStream): void {
  messages.tapped({ onFinish: (error) => stream.error ?? error, onEnd: () => stream.close() });
  stream.onCut((error) => messages.end(error));
  // Read as an iterable, it would wait for its next message for ever: nobody can return from what has not come.
  if (!stream.isLean) stream.signal.addEventListener("abort", () => messages.end(stream.signal.reason));
}

/** Passes messages on; what ends after the shutdown ends with its error. */
function guard<T>(messages: AsyncIterable<T>, stream: OpenStream, endsInError: boolean): AsyncIterable<T> {
  const source = messages[Symbol.asyncIterator]();
  const iterator: AsyncIterator<T> = {
    async next() {
      try {
        const result = await stream.step(source.next());
        if (!result.done) return result;
        if (stream.error !== undefined && endsInError) throw stream.error;
        stream.close();
        return result;
      } catch (error) {
        stream.close();
        source.return?.().catch(() => {});
        throw stream.error ?? error;
      }
    },
    async return(value) {
      stream.close();
      return (await source.return?.(value)) ?? { done: true, value };
    },
    async throw(reason) {
      stream.close();
      if (source.throw === undefined) throw reason;
      return source.throw(reason);
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
