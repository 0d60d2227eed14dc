import { create } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { reachedTenant } from "../../auth/platform.ts";
import { limitsInForce } from "../../auth/tenants/limits-in-force.ts";
import { getTenant } from "../../auth/tenants/store.ts";
import { snakeCase, type TenantLimitName } from "../../config/tenants.ts";
import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import type { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { type DailyUsage, DailyUsageSchema } from "../../gen/pulsewire/metrics/v1/usage_pb.js";
import { callerOf } from "../../rpc/caller.ts";
import { notFound } from "../../rpc/errors.ts";
import { daysBefore, isoDay, monthStartMs, nextDayMs, nextMonthMs } from "./days.ts";
import { countLimited } from "./limited.ts";
import { readUsage, type UsageDay } from "./store.ts";

const defaultDays = 30;

/** Tells what tenants used, and how far their limits are used up. */
export function usageHandlers({ config, db }: Context): Partial<ServiceImpl<typeof MetricsService>> {
  return {
    async getUsage({ tenantId: given, days }, context) {
      const tenantId = reachedTenant(callerOf(context), given);
      const now = new Date();
      const nowMs = now.getTime();
      const since = daysBefore(nowMs, (days || defaultDays) - 1);
      const month = isoDay(monthStartMs(nowMs));
      const [earlier = since] = [since, month].sort();
      const { tenant, used, counts } = await withTenant(db, tenantId, async (trx) => ({
        tenant: await getTenant(trx, tenantId),
        used: await readUsage(trx, tenantId, earlier, config.metrics.usage.prices),
        counts: await countLimited(trx, tenantId),
      }));
      if (!tenant) throw notFound("tenant", given);
      const today = used.find(({ day }) => day === isoDay(nowMs));
      const overTime: Partial<Record<TenantLimitName, { used: bigint; resetsAtMs: number }>> = {
        eventsPerDay: { used: today?.events ?? 0n, resetsAtMs: nextDayMs(nowMs) },
        samplesPerDay: { used: today?.samples ?? 0n, resetsAtMs: nextDayMs(nowMs) },
        costBudgetMicros: {
          used: wholeMicros(used.filter(({ day }) => day >= month)),
          resetsAtMs: nextMonthMs(nowMs),
        },
      };
      const limits = Object.entries(limitsInForce(tenant, config.tenants.limits)) as [
        TenantLimitName,
        bigint,
      ][];
      return {
        tenantId,
        days: used.filter(({ day }) => day >= since).map(dayMessage),
        limits: limits.flatMap(([name, limit]) => {
          const metered = overTime[name];
          const of = metered?.used ?? counts[name];
          // Calls a minute are no stock: the headers of each answer say how many are left.
          if (of === undefined) return [];
          const resetsAt = metered && timestampFromMs(metered.resetsAtMs);
          return [{ name: snakeCase(name), used: of, limit, ...(resetsAt && { resetsAt }) }];
        }),
        computedAt: timestampFromDate(now),
      };
    },
  };
}

function dayMessage(row: UsageDay): DailyUsage {
  return create(DailyUsageSchema, {
    date: row.day,
    events: row.events,
    samples: row.samples,
    activeStores: row.active_stores,
    activeSeries: row.active_series,
    invocations: row.invocations,
    calls: row.calls,
    costMicros: wholeMicros([row]),
  });
}

function wholeMicros(days: readonly UsageDay[]): bigint {
  return BigInt(Math.floor(days.reduce((sum, { cost_micros }) => sum + cost_micros, 0)));
}
