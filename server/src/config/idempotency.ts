/** Calls with a request id. */
import type { Settings } from "./setting-names.ts";
import { integer } from "./values.ts";

export interface IdempotencyConfig {
  /** How long the answer to a call with a request id is kept, milliseconds. Default 24 hours. */
  readonly ttlMs: number;
  /** For how long a call with a request id may run before a repetition takes over, milliseconds. Default 30 s. */
  readonly leaseMs: number;
}

export function idempotencyConfig(env: Settings): IdempotencyConfig {
  return {
    ttlMs: integer(env, "PULSEWIRE_IDEMPOTENCY_TTL", 86_400, 1, 30 * 86_400) * 1_000,
    leaseMs: integer(env, "PULSEWIRE_IDEMPOTENCY_LEASE", 30, 1, 3_600) * 1_000,
  };
}
