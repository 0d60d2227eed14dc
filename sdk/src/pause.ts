import { ref, sleep, type Timer, unref } from "./retry.ts";

/** A wait in which nothing is sent. It keeps the process running only while somebody waits for the sending. */
export class Pause {
  readonly #onEnd: () => void;
  #timer: Timer | undefined;
  #until = 0;
  #holders = 0;

  /** @param onEnd called when the time is over, not by {@link end} */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /** Whether it is under way. */
  get active(): boolean {
    return this.#timer !== undefined;
  }

  /** Begins, or goes on for longer where it is under way; never ends sooner. */
  begin(delayMs: number): void {
    const until = performance.now() + delayMs;
    if (this.active && until <= this.#until) return;
    this.end();
    this.#until = until;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#onEnd();
    }, delayMs);
    if (this.#holders === 0) unref(this.#timer);
  }

  /** Ends it now. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /**
   * Waits for work that a pause may hold up, and keeps the process running meanwhile.
   *
   * @param deadlineMs stop waiting after this many milliseconds
   */
  async hold(work: () => Promise<void>, deadlineMs?: number): Promise<void> {
    const done = new AbortController();
    if (this.#holders++ === 0 && this.#timer !== undefined) ref(this.#timer);
    try {
      const waits: Promise<unknown>[] = [work()];
      if (deadlineMs !== undefined) waits.push(sleep(deadlineMs, { signal: done.signal }));
      await Promise.race(waits);
    } finally {
      done.abort();
      if (--this.#holders === 0 && this.#timer !== undefined) unref(this.#timer);
    }
  }
}
