import type { FunctionsConfig } from "../../config/functions.ts";
import { createDockerEngine } from "./docker/engine.ts";
import { createKubernetesRuntime } from "./kubernetes/runtime.ts";
import { createNoRuntime } from "./none.ts";
import { createProcessEngine } from "./process/engine.ts";
import type { Runtime } from "./runtime.ts";
import { createSlotRuntime } from "./slots.ts";

/** The runtime that the configuration names. `installation` marks what is ours. Connects when first used. */
export function openRuntime(config: FunctionsConfig, installation: string): Runtime {
  switch (config.runtime) {
    case "docker":
      return createSlotRuntime(createDockerEngine(config, installation), installation);
    case "process":
      return createSlotRuntime(
        createProcessEngine(config.processDir, installation, process.env.PATH ?? "/usr/bin:/bin"),
        installation,
      );
    case "kubernetes":
      return createKubernetesRuntime(config, installation);
    default:
      return createNoRuntime();
  }
}
