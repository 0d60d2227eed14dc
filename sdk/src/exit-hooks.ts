import type { Gateway } from "./gateway.ts";

/** How gateways end with their process. */
export interface CloseOnExitOptions {
  /** Signals at which they are closed. Default SIGTERM and SIGINT. */
  signals?: NodeJS.Signals[];
  /** Whether they are closed when the event loop has nothing more to do. Default true. */
  beforeExit?: boolean;
  /** Milliseconds that closing may take. Default: that of close(), 5,000. */
  deadlineMs?: number;
}

type Close = () => Promise<unknown>;

/** Gateways that are closed at one event of the process. There is one listener for all of them. */
class ExitHook {
  readonly #event: string;
  readonly #closes = new Set<Close>();
  readonly #listener = () => void this.#run();
  #running = false;

  constructor(event: string) {
    this.#event = event;
  }

  add(close: Close): void {
    this.#closes.add(close);
    if (this.#closes.size === 1 && !this.#running) process.on(this.#event, this.#listener);
  }

  delete(close: Close): void {
    this.#closes.delete(close);
    if (this.#closes.size === 0 && !this.#running) process.off(this.#event, this.#listener);
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    await Promise.allSettled([...this.#closes].map((close) => close()));
    this.#running = false;
    // As the signal would have ended it; where the program listens, too, that decides.
    const again = this.#event !== "beforeExit" && process.listenerCount(this.#event) === 1;
    if (again || this.#closes.size === 0) process.off(this.#event, this.#listener);
    if (again) process.kill(process.pid, this.#event);
  }
}

const hooks = new Map<string, ExitHook>();

/**
 * Closes a gateway with the process. A signal then ends the process as it would have without this, unless the program
 * listens to it, too.
 *
 * @returns ends that
 */
export function closeOnExit(gateway: Gateway, options: CloseOnExitOptions): () => void {
  const { signals = ["SIGTERM", "SIGINT"], beforeExit = true, deadlineMs } = options;
  const close = () => gateway.close(deadlineMs === undefined ? {} : { deadlineMs });
  const chosen = [...signals, ...(beforeExit ? ["beforeExit"] : [])].map((event) => {
    const hook = hooks.get(event) ?? new ExitHook(event);
    hooks.set(event, hook);
    hook.add(close);
    return hook;
  });
  return () => {
    for (const hook of chosen) hook.delete(close);
  };
}
