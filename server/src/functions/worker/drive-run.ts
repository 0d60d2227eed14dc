/** One attempt of an invocation, from the claim to its end, or from wherever an earlier process left it. */
import { setTimeout as sleep } from "node:timers/promises";
import { sql, type Updateable } from "kysely";
import type { Context } from "../../context.ts";
import type { InvocationState, InvocationsTable } from "../../db/schema/functions.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { emitWebhookEvent } from "../../webhooks/emit.ts";
import { invocationChannel, tell } from "../channels.ts";
import { invocationEventData } from "../invocations/messages.ts";
import {
  enterPhase,
  getInvocation,
  type InvocationRow,
  isFinal,
  writeAttempt,
} from "../invocations/store.ts";
import { CannotStart, type RunEnd, type Runtime, RuntimeUnavailable, type Unit } from "../runtime/runtime.ts";
import { getFunction } from "../store.ts";
import type { Capture } from "./capture.ts";
import { containerSpec } from "./container-spec.ts";
import { type RunResult, resultOf } from "./result.ts";
import type { Tenure } from "./tenure.ts";

export interface Driver {
  readonly context: Context;
  readonly runtime: Runtime;
  readonly tenure: Tenure;
  readonly capture: Capture;
}

/** Pause while an image is fetched or the runtime is away, and before a cancelled container is asked again. */
const waitMs = 1_000;

/** How an attempt ended. */
interface Outcome {
  readonly phase: "SUCCEEDED" | "FAILED" | "TIMED_OUT";
  readonly reason: string;
  readonly exitCode: number | undefined;
  readonly endedAt: Date;
  readonly result: RunResult;
}

const noResult: RunResult = { json: null, truncated: false };

/** Resolves when the attempt is over and its container gone. */
export async function driveRun(driver: Driver, row: InvocationRow, cancelled: AbortSignal): Promise<void> {
  const { tenure, runtime, capture } = driver;
  if (isFinal(row.phase)) return await clearAway(driver, row);
  const attempt = row.phase === "PENDING" || row.phase === "RETRYING" ? row.attempt + 1 : row.attempt;
  const begun = attempt === row.attempt ? row : await claim(driver, row, attempt);
  if (!begun) return await clearAwayIfFinal(driver, row);

  const started =
    begun.phase === "RUNNING" ? await findUnit(driver, begun) : await begin(driver, begun, cancelled);
  if (started === "gone") return await clearAwayIfFinal(driver, row);
  let outcome: Outcome;
  if ("outcome" in started) {
    outcome = started.outcome;
  } else {
    const { unit } = started;
    const read = capture.read(unit);
    const { end, timedOut } = await untilEnd(driver, begun, unit, cancelled);
    await read;
    const succeeded = end.exitCode === 0 && !timedOut;
    outcome = {
      phase: timedOut ? "TIMED_OUT" : succeeded ? "SUCCEEDED" : "FAILED",
      reason: timedOut
        ? `it ran longer than the ${Number(begun.timeout_ms) / 1000} s that it may`
        : end.reason,
      exitCode: end.exitCode,
      endedAt: end.endedAt,
      result: succeeded ? await resultOf(driver.context.db, runtime, unit) : noResult,
    };
  }
  tenure.signal.throwIfAborted();
  const now = await conclude(driver, begun, outcome);
  tellChange(driver, row);
  if (now && isFinal(now.phase)) return await clearAway(driver, now);
  if (now) {
    await removeUnits(driver, row);
    return;
  }
  await clearAwayIfFinal(driver, row);
}

/** Takes the next attempt; undefined where the invocation was cancelled meanwhile. */
async function claim(
  driver: Driver,
  row: InvocationRow,
  attempt: number,
): Promise<InvocationRow | undefined> {
  const claimed = await driver.tenure.writeIn(row.tenant_id, async (trx) => {
    const now = await enterPhase(trx, row, ["PENDING", "RETRYING"], "STARTING", {
      attempt,
      reason: "",
      due_at: new Date(),
    });
    if (now) await writeAttempt(trx, { ...attemptKey(now), phase: "STARTING" });
    return now;
  });
  if (claimed) tellChange(driver, row);
  return claimed;
}

type Started = { unit: Unit } | { outcome: Outcome } | "gone";

/** Starts the container, however long the runtime makes wait for it. */
async function begin(driver: Driver, row: InvocationRow, cancelled: AbortSignal): Promise<Started> {
  const { context, runtime, tenure } = driver;
  const fn = await withTenant(context.db, row.tenant_id, (trx) =>
    getFunction(trx, row.tenant_id, row.function_id),
  );
  if (!fn) return "gone";
  const spec = await containerSpec(context, fn, row.template);
  const run = {
    ...spec,
    jobName: row.job_name,
    invocationId: row.id,
    attempt: row.attempt,
    input: row.input === null ? undefined : JSON.stringify(row.input),
    timeoutMs: Number(row.timeout_ms),
  };
  for (let said = row.reason; ; ) {
    if (cancelled.aborted) return "gone";
    try {
      const unit = await runtime.startRun(run);
      const entered = await tenure.writeIn(row.tenant_id, async (trx) => {
        const startedAt = unit.startedAt ?? new Date();
        const now = await enterPhase(trx, row, ["STARTING"], "RUNNING", {
          reason: "",
          started_at: sql`coalesce(started_at, ${startedAt})` as never,
        });
        if (now) {
          const values = {
            phase: "RUNNING",
            reason: "",
            replica: unit.replica,
            started_at: startedAt,
          } as const;
          await writeAttempt(trx, { ...attemptKey(row), ...values });
        }
        return now;
      });
      tellChange(driver, row);
      return entered ? { unit } : "gone";
    } catch (error) {
      if (error instanceof CannotStart && !error.wait) return { outcome: failed(error.message) };
      if (!(error instanceof CannotStart || error instanceof RuntimeUnavailable)) throw error;
      if (said !== error.message) await say(driver, row, error.message);
      said = error.message;
    }
    await sleep(waitMs, undefined, { signal: tenure.signal });
  }
}

/** The container of an attempt that was running when an earlier process ended. */
async function findUnit({ runtime }: Driver, row: InvocationRow): Promise<Started> {
  const unit = (await runtime.list()).find((one) => isOf(one, row) && one.attempt === row.attempt);
  return unit ? { unit } : { outcome: failed("the container was lost while nobody looked") };
}

/** Waits for the end, and brings it about when the time is over or the invocation is cancelled. */
async function untilEnd(
  { runtime, tenure }: Driver,
  row: InvocationRow,
  unit: Unit,
  cancelled: AbortSignal,
): Promise<{ end: RunEnd; timedOut: boolean }> {
  const deadline = (unit.startedAt?.getTime() ?? Date.now()) + Number(row.timeout_ms);
  let timedOut = false;
  for (;;) {
    const round = new AbortController();
    const isStopping = timedOut || cancelled.aborted;
    // While it is being stopped nothing interrupts the wait: the runtime kills it in the end.
    const signals = isStopping ? [tenure.signal] : [tenure.signal, cancelled, round.signal];
    const leftMs = Math.min(Math.max(0, deadline - Date.now()), 2 ** 31 - 1);
    const timer = isStopping ? undefined : setTimeout(() => round.abort(), leftMs);
    try {
      if (isStopping) await runtime.stop(unit);
      const end = await runtime.waitRun(unit, AbortSignal.any(signals));
      return { end, timedOut };
    } catch (error) {
      tenure.signal.throwIfAborted();
      if (cancelled.aborted && !isStopping) continue;
      if (round.signal.aborted) timedOut = Date.now() >= deadline;
      else if (error instanceof RuntimeUnavailable || isBroken(error)) {
        await sleep(waitMs, undefined, { signal: tenure.signal });
      } else throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The connection to the runtime broke, which says nothing of the container. */
function isBroken(error: unknown): boolean {
  const { code, message = "" } = error as { code?: string; message?: string };
  return /^E(CONN|PIPE)/.test(code ?? "") || /socket hang up|aborted/.test(message);
}

/** Writes how an attempt ended, and what follows. Undefined where the invocation was cancelled meanwhile. */
function conclude(
  { tenure }: Driver,
  row: InvocationRow,
  outcome: Outcome,
): Promise<InvocationRow | undefined> {
  const { phase, reason, exitCode = null, endedAt, result } = outcome;
  return tenure.writeIn(row.tenant_id, async (trx) => {
    const isLast = phase === "SUCCEEDED" || row.attempt >= row.retry_policy.maxAttempts;
    const changes: Updateable<InvocationsTable> = {
      reason,
      exit_code: exitCode,
      ...(phase === "SUCCEEDED" && { result: result.json, result_truncated: result.truncated }),
      ...(!isLast && { due_at: new Date(Date.now() + pauseMs(row)) }),
    };
    const next: InvocationState = isLast ? phase : "RETRYING";
    const now = await enterPhase(trx, row, ["STARTING", "RUNNING"], next, changes);
    if (!now) return undefined;
    await writeAttempt(trx, { ...attemptKey(row), phase, reason, exit_code: exitCode, finished_at: endedAt });
    if (isFinal(now.phase) && phase !== "SUCCEEDED") await tellFailure(trx, now);
    return now;
  });
}

async function tellFailure(trx: TenantTransaction, row: InvocationRow): Promise<void> {
  const details = await getInvocation(trx, row.tenant_id, row.id);
  if (!details) return;
  const data = { ...invocationEventData(details), reason: row.reason };
  await emitWebhookEvent(trx, row.tenant_id, "function.failed", data);
}

/** The pause before the next attempt, with up to a fifth of random change. */
function pauseMs({ attempt, retry_policy }: InvocationRow): number {
  const { initialBackoffMs, maxBackoffMs, multiplier } = retry_policy;
  const pause = Math.min(initialBackoffMs * multiplier ** (attempt - 1), maxBackoffMs);
  return Math.round(pause * (0.8 + Math.random() * 0.4));
}

/** Stops and removes what is left of an invocation that has ended, and then forgets it. */
async function clearAway(driver: Driver, row: InvocationRow): Promise<void> {
  await removeUnits(driver, row);
  await driver.tenure.writeIn(row.tenant_id, (trx) =>
    trx
      .updateTable("invocations")
      .set({ due_at: null })
      .where("tenant_id", "=", row.tenant_id)
      .where("id", "=", row.id)
      .execute(),
  );
}

async function clearAwayIfFinal(driver: Driver, { tenant_id, id }: InvocationRow): Promise<void> {
  const found = await withTenant(driver.context.db, tenant_id, (trx) => getInvocation(trx, tenant_id, id));
  if (found && isFinal(found.row.phase)) await clearAway(driver, found.row);
}

async function removeUnits({ runtime, capture, tenure }: Driver, row: InvocationRow): Promise<void> {
  const units = (await runtime.list()).filter((unit) => isOf(unit, row));
  for (const unit of units) {
    if (unit.state !== "created") {
      if (unit.state === "running") {
        await runtime.stop(unit);
        await runtime.waitRun(unit, tenure.signal);
      }
      await capture.read(unit);
    }
    await runtime.remove(unit);
    capture.forget(unit.id);
  }
}

async function say({ tenure }: Driver, row: InvocationRow, reason: string): Promise<void> {
  await tenure.writeIn(row.tenant_id, (trx) => enterPhase(trx, row, ["STARTING"], "STARTING", { reason }));
}

function tellChange({ context }: Driver, { id }: InvocationRow): void {
  tell(context.bus, context.logger, invocationChannel(id), "");
}

function attemptKey({ tenant_id, id, attempt }: InvocationRow) {
  return { tenant_id, invocation_id: id, number: attempt };
}

function isOf({ kind, invocationId }: Unit, { id }: InvocationRow): boolean {
  return kind === "run" && invocationId === id;
}

function failed(reason: string): Outcome {
  return { phase: "FAILED", reason, exitCode: undefined, endedAt: new Date(), result: noResult };
}
