/** Sentences about functions for people: what is wrong or waited for, and what would help. */
import type { FunctionsConfig } from "../config/functions.ts";

export const noRuntimeReason =
  "no runtime is configured, so nothing can run yet: the operator sets PULSEWIRE_FUNCTIONS_RUNTIME to 'docker' (with " +
  "PULSEWIRE_DOCKER_HOST, also for Podman), to 'kubernetes' (with PULSEWIRE_KUBECONFIG outside a cluster) or, for " +
  "development only, to 'process', and starts the server again; nothing needs to be sent again";

/** Why a function that was just accepted does not run yet. */
export function pendingReason({ runtime }: FunctionsConfig): string {
  return runtime ? `waiting for the ${runtime} runtime` : noRuntimeReason;
}
