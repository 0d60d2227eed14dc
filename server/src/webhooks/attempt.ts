/** One attempt of a delivery, and what follows from it. */
import type { Logger } from "pino";
import type { StoredAttempt } from "../db/schema/webhooks.ts";
import type { Deliver, Outcome } from "./channels/outcome.ts";
import type { ClaimedDelivery } from "./claim.ts";
import type { Result } from "./record.ts";
import { nextAttemptMs, type RetryRules } from "./schedule.ts";

interface Attempting {
  readonly now: () => number;
  /** Ends the attempt early. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** Tries a delivery and times it. Rejects only when the signal ends it. */
export async function attempt(
  deliver: Deliver,
  delivery: ClaimedDelivery,
  { now, signal, logger }: Attempting,
): Promise<{ outcome: Outcome; made: StoredAttempt }> {
  const startedMs = now();
  const began = performance.now();
  const outcome = await deliver(delivery, signal).catch((err: unknown): Outcome => {
    signal.throwIfAborted();
    logger.error({ err, deliveryId: delivery.id }, "a delivery could not be tried");
    return { accepted: false, status: 0, body: "", error: "an error of this server; ask its operator" };
  });
  return {
    outcome,
    made: {
      startedAt: new Date(startedMs).toISOString(),
      durationMs: Math.ceil(performance.now() - began),
      status: outcome.status,
      body: outcome.body,
      error: outcome.error,
    },
  };
}

/** What an outcome makes of a delivery that waits in the queue. */
export function resultOf(
  rules: RetryRules,
  delivery: ClaimedDelivery,
  outcome: Outcome,
  made: StoredAttempt,
  nowMs: number,
): Result {
  const base = { delivery, attempt: made, atMs: nowMs, gone: outcome.gone === true };
  if (outcome.accepted) return { ...base, status: "DELIVERED", dueMs: undefined };
  const { createdMs, attempts } = delivery;
  const { retryAfterMs } = outcome;
  const dueMs = outcome.permanent
    ? undefined
    : nextAttemptMs(rules, { createdMs, nowMs, attempts: attempts + 1, retryAfterMs });
  return { ...base, status: dueMs === undefined ? "FAILED" : "RETRYING", dueMs };
}
