import { randomUUID } from "node:crypto";
import type { Context } from "../../context.ts";
import { withTenant, withWorker } from "../../db/tenant.ts";
import { dropLease, takeLease } from "../../jobs/lease.ts";
import { startLoop } from "../../jobs/loop.ts";
import type { Worker } from "../../jobs/workers.ts";
import { isoDay, monthStartMs } from "./days.ts";
import { foldUsage, forgetActive, readUsage, tenantsToFold } from "./store.ts";
import { totalsOf, usageChannel } from "./totals.ts";

/** How often usage is folded, and how far the totals that other processes hear of are behind. */
const foldIntervalMs = 2_000;
const leaseName = "usage";
const leaseMs = 15_000;
const maxTenants = 500;
const forgetIntervalMs = 3_600_000;

/** Folds what was counted into days, and tells all processes the totals of tenants that have limits. */
export function startUsageFolding({ db, bus, config, logger, tenantSettings }: Context): Worker {
  const holder = randomUUID();
  const { prices } = config.metrics.usage;
  let forgottenAtMs = 0;

  const foldTenant = async (tenantId: string) => {
    const nowMs = Date.now();
    const days = await withTenant(db, tenantId, async (trx) => {
      await foldUsage(trx, tenantId, prices);
      return await readUsage(trx, tenantId, isoDay(monthStartMs(nowMs)), prices);
    });
    const limits = (tenantSettings.peek(tenantId) ?? (await tenantSettings.load(tenantId)))?.limits;
    if (!limits || !(limits.eventsPerDay || limits.samplesPerDay || limits.costBudgetMicros)) return;
    await bus.publish(usageChannel, JSON.stringify(totalsOf(tenantId, days, nowMs)));
  };
  const loop = startLoop({
    name: "usage",
    idleMs: foldIntervalMs,
    logger,
    async step(signal) {
      if (!(await takeLease(db, leaseName, holder, leaseMs))) return "idle";
      const tenantIds = await withWorker(db, (trx) => tenantsToFold(trx, maxTenants));
      for (const tenantId of tenantIds) {
        if (signal.aborted) break;
        await foldTenant(tenantId);
      }
      if (Date.now() - forgottenAtMs > forgetIntervalMs) {
        await withWorker(db, forgetActive);
        forgottenAtMs = Date.now();
      }
      return tenantIds.length === maxTenants ? "more" : "idle";
    },
  });
  return {
    async close() {
      await loop.close();
      await dropLease(db, leaseName, holder);
    },
  };
}
