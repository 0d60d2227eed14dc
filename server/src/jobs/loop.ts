/**
 * A background loop: runs a step again and again, at once while there is work, else when it is woken or when `idleMs`
 * have passed.
 *
 *   step → "more" → step …      step → "idle" → wait for wake, idle time or close → step …      error → back-off → step …
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Bus } from "../bus/bus.ts";

export interface LoopOptions {
  /** For the log. */
  readonly name: string;
  /**
   * Does one piece of work. `more`: there may be more to do now. The signal is aborted when the loop is to end: a step
   * that waits for something outside ends its waiting then.
   */
  step(signal: AbortSignal): Promise<"more" | "idle">;
  /** The longest pause between two steps, milliseconds: work that nobody told of is found after this time. */
  readonly idleMs: number;
  /** A channel whose messages wake the loop. */
  readonly wakeOn?: { readonly bus: Bus; readonly channel: string };
  readonly logger: Logger;
}

export interface Loop {
  /** Ends the pause; while a step runs, another follows it. */
  wake(): void;
  /** Lets the step that runs end, and starts none any more. */
  close(): Promise<void>;
}

const backOffMinMs = 100;
const backOffMaxMs = 10_000;

/** Starts a loop. Its first step runs at once. */
export function startLoop({ name, step, idleMs, wakeOn, logger }: LoopOptions): Loop {
  const closing = new AbortController();
  let woken = false;
  let pause = new AbortController();
  const wake = () => {
    woken = true;
    pause.abort();
  };
  const unsubscribe = wakeOn?.bus.subscribe(wakeOn.channel, wake);
  const unsubscribeGap = wakeOn?.bus.onGap(wake);

  const waitFor = async (ms: number) => {
    if (woken || closing.signal.aborted) return;
    pause = new AbortController();
    // Aborted is as good as over: both mean that the next step is due.
    await sleep(ms, undefined, { signal: pause.signal, ref: false }).catch(() => {});
  };

  const run = async () => {
    let failures = 0;
    while (!closing.signal.aborted) {
      woken = false;
      try {
        const outcome = await step(closing.signal);
        failures = 0;
        if (outcome === "idle") await waitFor(idleMs);
      } catch (err) {
        if (closing.signal.aborted) return;
        failures++;
        logger.error({ err, loop: name, failures }, "a background step failed; it will run again");
        const longest = Math.min(backOffMinMs * 2 ** Math.min(failures, 20), backOffMaxMs);
        await waitFor(longest * (0.5 + Math.random() / 2));
      }
    }
  };
  const ended = run();
  return {
    wake,
    async close() {
      unsubscribe?.();
      unsubscribeGap?.();
      closing.abort();
      pause.abort();
      await ended;
    },
  };
}
