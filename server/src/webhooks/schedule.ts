/** When a delivery that was not accepted is tried again. */
import type { WebhooksConfig } from "../config/webhooks.ts";

export type RetryRules = Pick<WebhooksConfig, "retryForMs" | "retryMinMs" | "retryMaxMs">;

/** The longest that a receiver may ask us to wait. */
const retryAfterMaxMs = 86_400_000;

/**
 * The time of the next attempt after `attempts` failed ones, or undefined where it is given up. Pauses double and vary by a
 * fifth both ways, so that receivers that were away are not met by all at once; a receiver's own wish is kept, never
 * undercut. The last attempt is at the end of the time.
 */
export function nextAttemptMs(
  rules: RetryRules,
  { createdMs, nowMs, attempts, retryAfterMs = 0 }: Situation,
  random: () => number = Math.random,
): number | undefined {
  const endMs = createdMs + rules.retryForMs;
  if (nowMs >= endMs) return undefined;
  const pause = Math.min(rules.retryMinMs * 2 ** Math.min(attempts - 1, 40), rules.retryMaxMs);
  const wished = Math.min(retryAfterMs, retryAfterMaxMs);
  const next = nowMs + Math.max(pause * (0.8 + 0.4 * random()), wished * (1 + 0.1 * random()));
  return Math.min(next, Math.max(endMs, nowMs + wished));
}

interface Situation {
  readonly createdMs: number;
  readonly nowMs: number;
  /** Those that have failed, at least 1. */
  readonly attempts: number;
  readonly retryAfterMs?: number | undefined;
}

/** Milliseconds that a `Retry-After` header asks for: seconds or a date (RFC 9110); undefined where it says nothing. */
export function readRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header) * 1_000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}
