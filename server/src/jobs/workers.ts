/** The background work of all domains, for processes whose role includes the worker. */
import type { Context } from "../context.ts";
import { startFunctions } from "../functions/worker/worker.ts";
import { startForgettingKeys } from "../ingestion/forget-keys.ts";
import { startEventWorker } from "../ingestion/processing/worker.ts";
import { startEventRetention } from "../ingestion/retention.ts";
import { startAlertRetention } from "../metrics/alerts/retention.ts";
import { startAlertEvaluation } from "../metrics/alerts/worker.ts";
import { startCompactor } from "../metrics/storage/compactor.ts";
import { startUsageFolding } from "../metrics/usage/fold.ts";
import { startProgressIntake } from "../progress/intake/worker.ts";
import { startProgressSweep } from "../progress/sweep.ts";
import { startDeliveries } from "../webhooks/worker.ts";

/** Work that runs until it is closed. */
export interface Worker {
  /** Ends it in good order; work under way is finished or given back. */
  close(): Promise<void>;
}

/** Starts one domain's work. */
export type StartWorker = (context: Context) => Worker;

/** Every domain's work, one line each. */
const starts: readonly StartWorker[] = [
  startUsageFolding,
  startCompactor,
  startEventWorker,
  startAlertEvaluation,
  startAlertRetention,
  startForgettingKeys,
  startEventRetention,
  startFunctions,
  startProgressIntake,
  startProgressSweep,
  startDeliveries,
];

/** Starts the work of all domains. */
export function startWorkers(context: Context): Worker {
  const workers = starts.map((start) => start(context));
  return {
    async close() {
      // A worker may want to hand its lease back to a database that is gone. The lease runs out by itself.
      const closed = await Promise.allSettled(workers.map((worker) => worker.close()));
      for (const each of closed)
        if (each.status === "rejected") context.logger.warn({ err: each.reason }, "a worker ended badly");
    },
  };
}
