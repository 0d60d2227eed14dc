/**
 * Runs invocations: claims what is due and drives each by a task of its own.
 *
 *   PENDING → STARTING → RUNNING → SUCCEEDED, or FAILED, or TIMED_OUT, or RETRYING → STARTING …; from all of them CANCELLED
 *
 * `due_at` is set until nothing is left to do, the container included. After a restart the next process finds the
 * invocation by it and the container by its labels.
 */
import { type RawBuilder, sql } from "kysely";
import type { Context } from "../../context.ts";
import { startLoop } from "../../jobs/loop.ts";
import { invocationChannel, invocationsChannel, tell } from "../channels.ts";
import type { InvocationRow } from "../invocations/store.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Capture } from "./capture.ts";
import { driveRun } from "./drive-run.ts";
import type { Tenure } from "./tenure.ts";

const idleMs = 1_000;
/** Invocations that are claimed at once. */
const claimLimit = 200;
/** How often containers of invocations that are over are looked for. */
const orphansMs = 30_000;

export interface Runs {
  wake(): void;
  close(): Promise<void>;
}

interface Task {
  readonly tenantId: string;
  readonly cancelled: AbortController;
  readonly ended: Promise<void>;
}

export function startRuns(context: Context, runtime: Runtime, tenure: Tenure, capture: Capture): Runs {
  const { bus, config, logger } = context;
  const tasks = new Map<string, Task>();
  let orphansAt = Date.now() + orphansMs;

  const start = (row: InvocationRow) => {
    const cancelled = new AbortController();
    if (row.phase === "CANCELLED") cancelled.abort();
    const ended = driveRun({ context, runtime, tenure, capture }, row, cancelled.signal)
      .catch((err: unknown) => {
        if (tenure.signal.aborted) return;
        logger.error(
          { err, invocationId: row.id },
          "an invocation could not be driven; it will be tried again",
        );
      })
      .finally(() => {
        tasks.delete(row.id);
        tell(bus, logger, invocationChannel(row.id), "");
        loop.wake();
      });
    tasks.set(row.id, { tenantId: row.tenant_id, cancelled, ended });
  };

  const step = async (): Promise<"more" | "idle"> => {
    const rows = await due(tenure, [...tasks.keys()]);
    const running = new Map<string, number>();
    for (const { tenantId } of tasks.values()) running.set(tenantId, (running.get(tenantId) ?? 0) + 1);
    for (const row of rows) {
      const task = tasks.get(row.id);
      if (task) {
        if (row.phase === "CANCELLED") task.cancelled.abort();
        continue;
      }
      const count = running.get(row.tenant_id) ?? 0;
      const isNew = row.phase === "PENDING" || row.phase === "RETRYING";
      // Without a runtime they wait as they are.
      if (isNew && runtime.name === "") continue;
      if (isNew && count >= config.functions.runningPerTenant) continue;
      running.set(row.tenant_id, count + 1);
      start(row);
    }
    if (Date.now() >= orphansAt) {
      await removeOrphans();
      orphansAt = Date.now() + orphansMs;
    }
    return "idle";
  };

  /** Containers whose invocation is over or unknown: what is left where a process ended between two steps. */
  const removeOrphans = async () => {
    const units = (await runtime.list()).filter(({ kind, invocationId }) => kind === "run" && invocationId);
    const ids = units.flatMap(({ invocationId }) => (invocationId ? [invocationId] : []));
    if (ids.length === 0) return;
    const open = await tenure.write((trx) =>
      trx
        .selectFrom("invocations")
        .select("id")
        .where("id", "in", ids)
        .where("due_at", "is not", null)
        .execute(),
    );
    const isOpen = new Set(open.map(({ id }) => id));
    for (const unit of units) {
      if (unit.invocationId && !isOpen.has(unit.invocationId) && !tasks.has(unit.invocationId)) {
        await runtime.remove(unit);
      }
    }
  };

  const loop = startLoop({
    name: "invocations",
    step,
    idleMs,
    wakeOn: { bus, channel: invocationsChannel },
    logger,
  });
  return {
    wake: () => loop.wake(),
    async close() {
      await loop.close();
      await Promise.allSettled([...tasks.values()].map(({ ended }) => ended));
    },
  };
}

/** What is due and not driven yet, and what of the driven is cancelled; the longest waiting first. */
function due(tenure: Tenure, driven: readonly string[]): Promise<InvocationRow[]> {
  const isDriven: RawBuilder<boolean> = sql`id = any (${driven}::uuid[])`;
  return tenure.write((trx) =>
    trx
      .selectFrom("invocations")
      .selectAll()
      .where("due_at", "<=", sql<Date>`now()`)
      .where((eb) => eb.or([eb.not(isDriven), eb("phase", "=", "CANCELLED")]))
      .orderBy("due_at")
      .orderBy("id")
      .limit(claimLimit)
      .execute(),
  );
}
