import { type Count, createLocalWindows, type RateWindows, type WindowOptions } from "../rpc/rate-windows.ts";

/** How long the primary may take; counting must not slow calls down. */
const answerMs = 250;

/** Rate windows of a member: the primary counts for all. `receive` takes its answers. */
export interface SharedWindows extends RateWindows {
  receive(id: number, count: Count): void;
}

/** Where the primary does not answer in time, the member counts for itself. */
export function createSharedWindows(
  ask: (id: number, name: string) => void,
  options: WindowOptions,
): SharedWindows {
  const local = createLocalWindows(options);
  const waiting = new Map<number, (count: Count) => void>();
  let lastId = 0;
  return {
    count(name) {
      const id = ++lastId;
      return new Promise((resolve) => {
        const timer = setTimeout(() => {
          waiting.delete(id);
          resolve(local.count(name));
        }, answerMs);
        waiting.set(id, (count) => {
          clearTimeout(timer);
          resolve(count);
        });
        ask(id, name);
      }) as Promise<Count>;
    },
    receive(id, count) {
      waiting.get(id)?.(count);
      waiting.delete(id);
    },
    close() {},
  };
}
