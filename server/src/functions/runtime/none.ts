import { noRuntimeReason } from "../reasons.ts";
import { CannotStart, type Runtime } from "./runtime.ts";

/** Where no runtime is configured: everything waits, and says for what. */
export function createNoRuntime(): Runtime {
  const never = () => Promise.reject(new Error("there are no units without a runtime"));
  return {
    name: "",
    list: async () => [],
    watch: (_onChange, signal) =>
      new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true })),
    apply: async () => ({
      available: 0,
      outdated: 0,
      reason: noRuntimeReason,
      hopeless: false,
      newFailures: 0,
      againInMs: undefined,
    }),
    retire: async () => true,
    startRun: () => Promise.reject(new CannotStart(noRuntimeReason, { wait: true })),
    waitRun: never,
    stop: never,
    readResult: never,
    // biome-ignore lint/correctness/useYield: there is nothing to read
    async *readLog() {
      await never();
    },
    remove: never,
    close: async () => {},
  };
}
