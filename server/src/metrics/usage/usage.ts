import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { TenantSettingsCache } from "../../auth/tenants/settings.ts";
import type { Bus } from "../../bus/bus.ts";
import type { Config } from "../../config/config.ts";
import type { Database } from "../../db/schema.ts";
import { callerKey } from "../../rpc/caller.ts";
import type { Interceptor } from "../../rpc/interceptor.ts";
import { createUsageLimits, type UsageLimits } from "./limits.ts";
import { createUsageNotes, type UsageNotes } from "./notes.ts";

/** What tenants use through this process: counted, and kept within their limits. A transaction counts with `countUsage`. */
export type Usage = Pick<UsageLimits, "spend" | "requireBudget"> & UsageNotes;

export function createUsage(
  db: Kysely<Database>,
  bus: Bus,
  tenants: TenantSettingsCache,
  config: Config,
  logger: Logger,
): Usage {
  const limits = createUsageLimits(db, bus, tenants, config.metrics.usage);
  const notes = createUsageNotes(db, config.metrics.usage.noteIntervalMs, logger);
  return {
    ...notes,
    spend: limits.spend,
    requireBudget: limits.requireBudget,
    async close() {
      limits.close();
      await notes.close();
    },
  };
}

/** Counts the calls of callers whose tenant is open, whatever becomes of them; a stream is one call. */
export function countCallsInterceptor(usage: Pick<UsageNotes, "noteCall">): Interceptor {
  return (next) => (req) => {
    const caller = req.contextValues.get(callerKey);
    if (caller) usage.noteCall(caller.tenantId);
    return next(req);
  };
}
