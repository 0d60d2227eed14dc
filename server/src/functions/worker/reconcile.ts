/** Brings the runtime to what is wanted of functions, one step at a time, as often as it takes. */
import { sql } from "kysely";
import type { Context } from "../../context.ts";
import { type Loop, startLoop } from "../../jobs/loop.ts";
import { emitWebhookEvent } from "../../webhooks/emit.ts";
import { functionsChannel, logChannel, tell } from "../channels.ts";
import { endLog } from "../logs/store.ts";
import { functionEventData } from "../messages.ts";
import { type Found, type Runtime, RuntimeUnavailable, type Unit } from "../runtime/runtime.ts";
import { type FunctionRow, getTemplate, writeFindings } from "../store.ts";
import type { Capture } from "./capture.ts";
import { containerSpec } from "./container-spec.ts";
import { notBefore, statusOf } from "./status.ts";
import type { Tenure } from "./tenure.ts";

/** How often everything is looked at, also what nobody told of. */
const fullPassMs = 15_000;
const idleMs = 1_000;
/** Functions that are worked on at the same time. */
const atOnce = 8;
/** Without a failure for so long, earlier ones are forgotten. */
const forgetFailuresMs = 60_000;
const deletedAgainMs = 500;

export interface Reconciler {
  /** Something of a function, or of any, may have changed in the runtime. */
  changed(functionId: string | undefined): void;
  close(): Promise<void>;
}

export function startReconciler(
  context: Context,
  runtime: Runtime,
  tenure: Tenure,
  capture: Capture,
): Reconciler {
  const { bus, logger } = context;
  const dirty = new Set<string>();
  let fullPassAt = 0;

  const step = async (): Promise<"more" | "idle"> => {
    const isFull = Date.now() >= fullPassAt;
    const hinted = [...dirty];
    dirty.clear();
    const rows = await dueFunctions(tenure, isFull ? "all" : hinted);
    if (!isFull && rows.length === 0) return "idle";
    let units: Unit[];
    try {
      units = await runtime.list();
    } catch (error) {
      if (!(error instanceof RuntimeUnavailable)) throw error;
      await markUnreachable(tenure, error.message);
      fullPassAt = 0;
      return "idle";
    }
    for (const unit of units) if (unit.state !== "created") void capture.read(unit).catch(() => {});
    const byFunction = Map.groupBy(units, ({ functionId }) => functionId);
    for (let start = 0; start < rows.length; start += atOnce) {
      await Promise.all(
        rows.slice(start, start + atOnce).map((row) =>
          reconcile(row, byFunction.get(row.id) ?? []).catch((err: unknown) => {
            tenure.signal.throwIfAborted();
            logger.error(
              { err, functionId: row.id },
              "a function could not be reconciled; it will be tried again",
            );
            dirty.add(row.id);
          }),
        ),
      );
    }
    if (isFull) {
      await removeOrphans(rows, units);
      await runtime.removeUnused?.(new Set(units.map(({ tenantId }) => tenantId)));
      fullPassAt = Date.now() + fullPassMs;
    }
    return "idle";
  };

  const reconcile = async (row: FunctionRow, units: readonly Unit[]) => {
    await clearEnded(units);
    if (row.deleted_at) return await retire(row, units);
    const failures = hasSettled(row) ? 0 : row.failures;
    const found = await look(row, units, failures);
    const count = found.newFailures > 0 || (found.hopeless && isNewFailure(row)) ? failures + 1 : failures;
    const { status, reason } = statusOf(found, row.replicas, count);
    const findings = {
      status,
      status_reason: reason,
      available_replicas: Math.min(found.available, row.replicas),
      observed_generation: row.generation,
      runtime: runtime.name,
      failures: count,
      failed_at: count > failures ? new Date() : row.failed_at,
    };
    const isNews = row.status !== status || row.available_replicas !== findings.available_replicas;
    const isSame =
      !isNews &&
      row.status_reason === reason &&
      row.observed_generation === row.generation &&
      row.runtime === runtime.name &&
      row.failures === count &&
      row.due_at === null &&
      found.againInMs === undefined;
    if (isSame) return;
    const dueAt = found.againInMs === undefined ? null : new Date(Date.now() + found.againInMs);
    await tenure.writeIn(row.tenant_id, async (trx) => {
      // A change that came meanwhile has set due_at again, and is not to be lost.
      await writeFindings(
        trx,
        row,
        {
          ...findings,
          due_at: sql`case when generation = ${row.generation} then ${dueAt}::timestamptz else now() end`,
          status: sql`case when deleted_at is null then ${status} else status end`,
        } as never,
        isNews,
      );
      if (status === "FAILED" && row.status !== "FAILED") {
        const template = await getTemplate(trx, row.tenant_id, row.id, row.template);
        const data = functionEventData({ row: { ...row, status }, template });
        await emitWebhookEvent(trx, row.tenant_id, "function.failed", { ...data, reason });
      }
    });
  };

  const look = async (row: FunctionRow, units: readonly Unit[], failures: number): Promise<Found> => {
    const spec = await containerSpec(context, row, row.template);
    return await runtime.apply(
      {
        ...spec,
        replicas: row.replicas,
        warmPoolSize: row.warm_pool_size,
        notBefore: notBefore(failures, row.failed_at),
      },
      units,
    );
  };

  /** Removes standing containers that have ended once their output is in the log; runs are removed by who runs them. */
  const clearEnded = async (units: readonly Unit[]) => {
    for (const unit of units) {
      if (unit.kind === "run" || unit.state !== "ended" || !capture.isRead(unit.id)) continue;
      await runtime.remove(unit);
      capture.forget(unit.id);
    }
  };

  const retire = async (row: FunctionRow, units: readonly Unit[]) => {
    const stopped = await runtime.retire(row.id, row.namespace, units);
    const over = stopped && units.length === 0 && !capture.isReading(row.id);
    await tenure.writeIn(row.tenant_id, async (trx) => {
      if (over) await endLog(trx, row.tenant_id, row.id);
      const dueAt = over ? null : new Date(Date.now() + deletedAgainMs);
      await writeFindings(trx, row, { due_at: dueAt, observed_generation: row.generation }, false);
    });
    if (over) tell(bus, logger, logChannel(row.id), "");
  };

  /** Units whose function this installation does not know, such as after the database was set back. */
  const removeOrphans = async (rows: readonly FunctionRow[], units: readonly Unit[]) => {
    const known = new Set(rows.map(({ id }) => id));
    for (const unit of units.filter(({ functionId }) => !known.has(functionId))) {
      if (await isKnown(tenure, unit.functionId)) continue;
      logger.info(
        { unit: unit.id, functionId: unit.functionId },
        "a container belongs to no function; removing it",
      );
      await runtime.remove(unit);
    }
  };

  const loop: Loop = startLoop({
    name: "functions",
    step,
    idleMs,
    wakeOn: { bus, channel: functionsChannel },
    logger,
  });
  return {
    changed(functionId) {
      if (functionId === undefined) fullPassAt = 0;
      else dirty.add(functionId);
      loop.wake();
    },
    close: () => loop.close(),
  };
}

function hasSettled({ failures, failed_at, status }: FunctionRow): boolean {
  return failures > 0 && status === "RUNNING" && (failed_at?.getTime() ?? 0) < Date.now() - forgetFailuresMs;
}

function isNewFailure({ failures, failed_at }: FunctionRow): boolean {
  const until = notBefore(failures, failed_at);
  return until === undefined || until.getTime() <= Date.now();
}

/** Functions that are due or named; with `all` every one that is not deleted, or not yet cleared away. */
function dueFunctions(tenure: Tenure, which: "all" | readonly string[]): Promise<FunctionRow[]> {
  return tenure.write((trx) =>
    trx
      .selectFrom("functions")
      .selectAll()
      .where((eb) =>
        which === "all"
          ? eb.or([eb("deleted_at", "is", null), eb("due_at", "is not", null)])
          : eb.or([
              eb("due_at", "<=", sql<Date>`now()`),
              ...(which.length > 0 ? [eb("id", "in", which)] : []),
            ]),
      )
      .orderBy("due_at")
      .execute(),
  );
}

/** Whether a function is there, or is still being cleared away. */
async function isKnown(tenure: Tenure, functionId: string): Promise<boolean> {
  const row = await tenure.write((trx) =>
    trx
      .selectFrom("functions")
      .select("id")
      .where("id", "=", functionId)
      .where((eb) => eb.or([eb("deleted_at", "is", null), eb("due_at", "is not", null)]))
      .executeTakeFirst(),
  );
  return row !== undefined;
}

/** Nobody knows what runs: what was seen running is DEGRADED, the rest stays as it is, with the reason. */
async function markUnreachable(tenure: Tenure, reason: string): Promise<void> {
  await tenure.write((trx) =>
    trx
      .updateTable("functions")
      .set({
        status: sql`case when status = 'RUNNING' then 'DEGRADED' else status end`,
        status_reason: reason,
        updated_at: sql`case when status = 'RUNNING' then clock_timestamp() else updated_at end`,
      })
      .where("deleted_at", "is", null)
      .where((eb) => eb.or([eb("status_reason", "!=", reason), eb("status", "=", "RUNNING")]))
      .execute(),
  );
}
