/** The background work of functions: one process of the installation at a time drives the runtime. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "../../context.ts";
import { dropLease, takeLease } from "../../jobs/lease.ts";
import { startLoop } from "../../jobs/loop.ts";
import type { Worker } from "../../jobs/workers.ts";
import { openRuntime } from "../runtime/open.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { startCallbacks } from "./callbacks.ts";
import { createCapture } from "./capture.ts";
import { installationId } from "./installation.ts";
import { startReconciler } from "./reconcile.ts";
import { startRuns } from "./runs.ts";
import { startSweep } from "./sweep.ts";
import { createTenure, type Tenure } from "./tenure.ts";

const leaseName = "functions";
/** For how long the lease is taken, and how often it is renewed. What still runs when it is lost is fenced off. */
const leaseMs = 6_000;
const renewMs = 1_500;
const watchAgainMs = 1_000;

/** Competes for the lease and, while it has it, reconciles, runs invocations, captures logs and clears away. */
export function startFunctions(context: Context): Worker {
  const { db, config, logger } = context;
  const holder = randomUUID();
  let current: { ended: Promise<void>; end: AbortController } | undefined;
  let renewedAt = 0;

  const step = async (): Promise<"idle"> => {
    const lease = await takeLease(db, leaseName, holder, leaseMs);
    if (lease) renewedAt = performance.now();
    if (lease && !current) {
      const end = new AbortController();
      const tenure = createTenure(db, lease, end.signal, () => end.abort());
      const ended = serve(context, tenure).catch((err: unknown) => {
        if (!end.signal.aborted) logger.error({ err }, "the functions worker stopped; it will start again");
        end.abort();
      });
      current = { ended, end };
    } else if (current && (!lease || current.end.signal.aborted)) {
      await stop();
    }
    return "idle";
  };

  const stop = async () => {
    current?.end.abort();
    await current?.ended;
    current = undefined;
  };

  const loop = startLoop({
    name: "functions lease",
    async step() {
      try {
        return await step();
      } catch (error) {
        // Without the database nobody can be asked; another takes over when the lease has run out.
        if (current && performance.now() - renewedAt > leaseMs) await stop();
        throw error;
      }
    },
    idleMs: renewMs,
    logger,
  });
  logger.debug({ runtime: config.functions.runtime ?? "none" }, "functions worker");
  return {
    async close() {
      await loop.close();
      await stop();
      await dropLease(db, leaseName, holder).catch((err: unknown) =>
        logger.debug({ err }, "the functions lease could not be given up; it runs out by itself"),
      );
    },
  };
}

/** One tenure: everything starts, and ends with the signal. */
async function serve(context: Context, tenure: Tenure): Promise<void> {
  const { bus, logger, config, db } = context;
  const runtime = openRuntime(config.functions, await installationId(db));
  const capture = createCapture(runtime, tenure, bus, logger);
  const reconciler = startReconciler(context, runtime, tenure, capture);
  const runs = startRuns(context, runtime, tenure, capture);
  const sweep = startSweep(context, tenure);
  const callbacks = startCallbacks(context, tenure);
  try {
    await watch(runtime, tenure, reconciler.changed, (err) =>
      logger.debug({ err, runtime: runtime.name }, "the runtime's events are cut off; connecting again"),
    );
  } finally {
    await Promise.all([reconciler.close(), runs.close(), sweep.close(), callbacks.close()]);
    await capture.close();
    await runtime.close();
  }
}

/** Listens to the runtime until the end of the tenure, whatever breaks. */
async function watch(
  runtime: Runtime,
  { signal }: Tenure,
  onChange: (functionId: string | undefined) => void,
  onCut: (error: unknown) => void,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await runtime.watch(onChange, signal);
    } catch (error) {
      if (!signal.aborted) onCut(error);
    }
    // An aborted pause is the end.
    await sleep(watchAgainMs, undefined, { signal }).catch(() => {});
  }
}
