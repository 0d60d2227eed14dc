/**
 * An answer that comes later, without the cost of promises: who waits is called at once, in the turn in which it comes, and a
 * chain of ten costs about one promise. It is for what is answered by the thousand: a handler returns one where it is called
 * back anyway, as by a group commit, and interceptors go on with `then` as they do with a promise.
 *
 *   const later = new Later<Message>();
 *   whenDone((message) => later.resolve(message));
 *   return later;   // from a handler that is no async function, for those make a promise of it
 *
 * `await` works as well. Other than with a promise nobody is told of a failure that nobody waits for.
 */
import { isPromise } from "./interceptor.ts";

const waiting = 0;
const done = 1;
const failed = 2;

type Outcome = typeof done | typeof failed;

// What is passed on differs from link to link: only the ends have types.
type Step = ((value: never) => unknown) | null | undefined;

export class Later<T> implements Promise<T> {
  #state: typeof waiting | Outcome = waiting;
  #value: unknown;
  /** What waits for this one: seldom more than one. */
  #next: Later<unknown> | undefined;
  #others: Later<unknown>[] | undefined;
  /** What this one does with the outcome of the one before. */
  readonly #onDone: Step;
  readonly #onFailed: Step;

  constructor(onDone?: Step, onFailed?: Step) {
    this.#onDone = onDone;
    this.#onFailed = onFailed;
  }

  get [Symbol.toStringTag](): string {
    return "Later";
  }

  /** Passes the value on, or what becomes of it where it is a promise. To be called once, as `reject`. */
  resolve(value: T | PromiseLike<T>): void {
    if (isPromise(value)) {
      value.then(
        (result) => this.#settle(done, result),
        (error: unknown) => this.#settle(failed, error),
      );
    } else this.#settle(done, value);
  }

  reject(error: unknown): void {
    this.#settle(failed, error);
  }

  // biome-ignore lint/suspicious/noThenProperty: it is to be used where a promise is.
  then<A = T, B = never>(
    onDone?: ((value: T) => A | PromiseLike<A>) | null,
    onFailed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Later<A | B> {
    const next = new Later<A | B>(onDone, onFailed);
    if (this.#state !== waiting) next.#take(this.#state, this.#value);
    else if (!this.#next) this.#next = next as Later<unknown>;
    else if (this.#others) this.#others.push(next as Later<unknown>);
    else this.#others = [next as Later<unknown>];
    return next;
  }

  catch<B = never>(onFailed?: ((error: unknown) => B | PromiseLike<B>) | null): Later<T | B> {
    return this.then(undefined, onFailed);
  }

  finally(onOver?: (() => void) | null): Later<T> {
    return this.then(
      (value) => {
        onOver?.();
        return value;
      },
      (error) => {
        onOver?.();
        throw error;
      },
    );
  }

  #settle(state: Outcome, value: unknown): void {
    if (this.#state !== waiting) return;
    this.#state = state;
    this.#value = value;
    const next = this.#next;
    const others = this.#others;
    this.#next = undefined;
    this.#others = undefined;
    if (next) next.#take(state, value);
    if (others) for (const other of others) other.#take(state, value);
  }

  #take(state: Outcome, value: unknown): void {
    const step = (state === done ? this.#onDone : this.#onFailed) as
      | ((value: unknown) => unknown)
      | undefined;
    if (!step) {
      this.#settle(state, value);
      return;
    }
    let result: unknown;
    try {
      result = step(value);
    } catch (error) {
      this.#settle(failed, error);
      return;
    }
    this.resolve(result as T);
  }
}
