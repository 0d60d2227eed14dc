import { randomUUID, timingSafeEqual } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { IdempotencyConfig } from "../config/idempotency.ts";
import { withCommitGuard } from "../db/commit-guard.ts";
import type { Database } from "../db/schema.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import type { Seal } from "./seal.ts";
import { type Attempt, findBegun, giveUp, keepAnswer, markEffect, reserve } from "./store.ts";

/** How long a repetition waits for the call that runs; then it is told to call again. */
export const maxWaitMs = 10_000;
const pollMs = { first: 10, last: 250 };
const retryAfterMs = 1_000;

export interface Once {
  readonly db: Kysely<Database>;
  readonly settings: IdempotencyConfig;
  readonly logger: Logger;
}

/** A call that is to take effect once. */
export interface KeyedCall<T> {
  /** The request id, for errors. */
  readonly key: string;
  readonly seal: Seal;
  /** Ends the wait for another run. */
  readonly signal: AbortSignal;
  run(): Promise<T>;
  encode(answer: T): Uint8Array;
  decode(bytes: Uint8Array): T;
}

/**
 * Runs a call, or answers as it was answered before.
 *
 * The row is there before the call runs. Every transaction of the call that writes marks the row as its last statement,
 * so effect and mark are committed together, and only as long as the row is this run's. Hence after a crash the row
 * tells: without a mark nothing has happened, and a repetition takes over when the lease has lapsed, which shuts the
 * old run out should it still be alive; with a mark but no answer a repetition is told OUTCOME_UNKNOWN.
 */
export async function runOnce<T>(once: Once, call: KeyedCall<T>): Promise<{ answer: T; replayed: boolean }> {
  const { db, settings } = once;
  const { id, fingerprint } = call.seal;
  const attempt: Attempt = { id, attempt: randomUUID() };
  const giveUpAt = performance.now() + maxWaitMs;
  for (let pause = pollMs.first; ; pause = Math.min(pause * 2, pollMs.last)) {
    if (await reserve(db, attempt, fingerprint, settings)) {
      return { answer: await run(once, call, attempt), replayed: false };
    }
    const begun = await findBegun(db, id);
    if (begun) {
      if (!timingSafeEqual(begun.fingerprint, fingerprint)) throw contentChanged(call.key);
      if (begun.answer) return { answer: call.decode(call.seal.decrypt(begun.answer)), replayed: true };
      if (begun.lapsed && begun.effective) throw outcomeUnknown(call.key);
      if (performance.now() >= giveUpAt) throw inProgress(call.key);
    }
    await sleep(pause, undefined, { signal: call.signal }).catch(() => call.signal.throwIfAborted());
  }
}

async function run<T>({ db, logger }: Once, call: KeyedCall<T>, attempt: Attempt): Promise<T> {
  let answer: T;
  try {
    answer = await withCommitGuard(
      async (trx) => {
        if (!(await markEffect(trx, attempt))) throw inProgress(call.key);
      },
      () => call.run(),
    );
  } catch (error) {
    // Where even this fails, the lease lapses by itself.
    await giveUp(db, attempt, isCertain(error)).catch((err: unknown) =>
      logger.warn({ err }, "a failed call could not be given up; its repetitions wait for the lease"),
    );
    throw error;
  }
  // The caller has the answer; only a repetition would miss it.
  await keepAnswer(db, attempt, call.seal.encrypt(call.encode(answer))).catch((err: unknown) =>
    logger.warn({ err }, "an answer could not be kept; repetitions of its call are told OUTCOME_UNKNOWN"),
  );
  return answer;
}

/** These leave it open what has happened; the others are answers, and calling again gives the same or a better one. */
const uncertain: ReadonlySet<Code> = new Set([
  Code.Canceled,
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

function isCertain(error: unknown): boolean {
  return error instanceof ConnectError && !uncertain.has(error.code);
}

function contentChanged(id: string) {
  return failure(
    ErrorReason.CONFLICT,
    "this request id was used before with another content; use a new one, or send the same content",
    { metadata: { id } },
  );
}

function outcomeUnknown(id: string) {
  return failure(
    ErrorReason.OUTCOME_UNKNOWN,
    "a call with this request id took effect, but its answer was lost; look at the resource, then use a new id",
    { metadata: { id } },
  );
}

function inProgress(id: string) {
  return failure(
    ErrorReason.REQUEST_IN_PROGRESS,
    "a call with this request id is still running; call again with the same id for its answer",
    { metadata: { id }, retryAfterMs },
  );
}
