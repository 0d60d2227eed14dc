import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { startLoop } from "../../jobs/loop.ts";
import type { StartWorker } from "../../jobs/workers.ts";
import { batchesChannel } from "../news.ts";
import { buildDue } from "../rollups/build.ts";
import { NameNumbers } from "../rollups/names.ts";
import { claimBatches, noTenant } from "./claim.ts";
import { processClaim } from "./process.ts";

/** How often batches are looked for that nobody told of: put off, or held by a worker that died. */
const idleMs = 1_000;
/** How often periods are looked for that are over. */
const buildIdleMs = 5_000;

/** Processes events: see README.md. */
export const startEventWorker: StartWorker = ({ db, bus, config, logger, processedEvents }) => {
  const processing = {
    db,
    worker: `${hostname()} ${randomUUID()}`,
    names: new NameNumbers(),
    maxAttempts: config.ingestion.maxAttempts,
  };
  let tenant = noTenant;
  const batches = startLoop({
    name: "events",
    idleMs,
    wakeOn: { bus, channel: batchesChannel },
    logger,
    async step() {
      const claim = await claimBatches(db, processing.worker, tenant);
      if (!claim) return "idle";
      tenant = claim.tenantId;
      processedEvents.inc(await processClaim(processing, claim));
      return "more";
    },
  });
  const builds = startLoop({
    name: "event rollups",
    idleMs: buildIdleMs,
    logger,
    step: async () => ((await buildDue(db)) > 0 ? "more" : "idle"),
  });
  return {
    async close() {
      await Promise.all([batches.close(), builds.close()]);
    },
  };
};
