/**
 * The limits of a tenant over time: events and samples a day, cost a month. A call costs no query: this process adds what it
 * takes in to the tenant's total, which it reads when it first meets the tenant and every `checkIntervalMs`, and hears of over
 * the bus whenever totals are folded, some two seconds behind. So one process keeps a limit exactly; several together may
 * pass it by what they take in during those seconds.
 */
import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { TenantSettingsCache } from "../../auth/tenants/settings.ts";
import type { Bus } from "../../bus/bus.ts";
import type { UsageConfig } from "../../config/metrics.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import { dayNumber, isoDay, monthStartMs, nextDayMs, nextMonthMs } from "./days.ts";
import { readUsage } from "./store.ts";
import { totalsOf, type UsageTotals, usageChannel } from "./totals.ts";

/** What is limited by the day. */
export type Metered = "events" | "samples";

export interface UsageLimits {
  /**
   * Runs what takes in `count` events or samples, where the tenant has room for all of them. `accepted` says how many were
   * taken in; not given: all. Throws TENANT_LIMIT, with the time until the day or the month ends. Of a tenant without limits
   * this is just what `run` returns.
   */
  spend<T>(
    tenantId: string,
    what: Metered,
    count: number,
    run: () => Promise<T>,
    accepted?: (result: T) => number,
  ): Promise<T>;
  /** Throws TENANT_LIMIT where the budget of the month is used up. */
  requireBudget(tenantId: string): Promise<void>;
  /** Ends the subscriptions. */
  close(): void;
}

/** What this process knows of a tenant's day. */
interface Counter {
  readonly day: number;
  checkedAtMs: number;
  costMicros: number;
  readonly events: Tally;
  readonly samples: Tally;
}

interface Tally {
  /** The tenant's total when it was first read, and what this process took in since: a lower bound. */
  own: number;
  /** The total as it was heard last, and what this process took in since: another one. */
  heard: number;
  /** Asked for and not answered yet. */
  pending: number;
}

const maxTenants = 50_000;
const limitOf = { events: "eventsPerDay", samples: "samplesPerDay" } as const;

export function createUsageLimits(
  db: Kysely<Database>,
  bus: Bus,
  tenants: TenantSettingsCache,
  { checkIntervalMs, prices }: UsageConfig,
): UsageLimits {
  const counters = new LRUCache<string, Counter>({ max: maxTenants });
  const loading = new Map<string, Promise<Counter>>();

  const hear = ({ tenantId, day, events, samples, costMicros }: UsageTotals) => {
    const counter = counters.peek(tenantId);
    if (counter?.day !== day) return;
    counter.events.heard = events;
    counter.samples.heard = samples;
    counter.costMicros = costMicros;
  };
  const subscriptions = [
    bus.subscribe(usageChannel, (message) => hear(JSON.parse(message))),
    bus.onGap(() => {
      for (const counter of counters.values()) counter.checkedAtMs = 0;
    }),
  ];

  const read = async (tenantId: string): Promise<Counter> => {
    const nowMs = Date.now();
    const days = await withTenant(db, tenantId, (trx) =>
      readUsage(trx, tenantId, isoDay(monthStartMs(nowMs)), prices),
    );
    const totals = totalsOf(tenantId, days, nowMs);
    const known = counters.get(tenantId);
    if (known?.day === totals.day) {
      hear(totals);
      return known;
    }
    const tally = (total: number): Tally => ({ own: total, heard: total, pending: 0 });
    const counter = {
      day: totals.day,
      checkedAtMs: nowMs,
      costMicros: totals.costMicros,
      events: tally(totals.events),
      samples: tally(totals.samples),
    };
    counters.set(tenantId, counter);
    return counter;
  };
  const load = (tenantId: string): Promise<Counter> => {
    const running = loading.get(tenantId);
    if (running) return running;
    const started = read(tenantId).finally(() => loading.delete(tenantId));
    loading.set(tenantId, started);
    return started;
  };
  const counterOf = async (tenantId: string): Promise<Counter> => {
    const nowMs = Date.now();
    const known = counters.get(tenantId);
    if (known?.day !== dayNumber(nowMs)) return await load(tenantId);
    if (nowMs - known.checkedAtMs > checkIntervalMs) {
      known.checkedAtMs = nowMs;
      // The answer may come a little later: this process counts on meanwhile.
      load(tenantId).catch(() => {
        known.checkedAtMs = 0;
      });
    }
    return known;
  };
  const limitsOf = async (tenantId: string) =>
    (tenants.peek(tenantId) ?? (await tenants.load(tenantId)))?.limits;

  const spendWithin: UsageLimits["spend"] = async (tenantId, what, count, run, accepted = () => count) => {
    const limits = await limitsOf(tenantId);
    const most = Number(limits?.[limitOf[what]] ?? 0n);
    const budget = Number(limits?.costBudgetMicros ?? 0n);
    if (most === 0 && budget === 0) return await run();
    const counter = await counterOf(tenantId);
    requireRest(counter, budget);
    const tally = counter[what];
    const used = Math.max(tally.own, tally.heard) + tally.pending;
    if (most > 0 && used + count > most) throw dayIsFull(what, most, used, count);
    tally.pending += count;
    try {
      const result = await run();
      const taken = accepted(result);
      tally.own += taken;
      tally.heard += taken;
      counter.costMicros += taken * prices[what];
      return result;
    } finally {
      tally.pending -= count;
    }
  };

  return {
    spend(tenantId, what, count, run, accepted) {
      const limits = tenants.peek(tenantId)?.limits;
      if (limits?.[limitOf[what]] === 0n && limits.costBudgetMicros === 0n) return run();
      return spendWithin(tenantId, what, count, run, accepted);
    },
    async requireBudget(tenantId) {
      const budget = Number((await limitsOf(tenantId))?.costBudgetMicros ?? 0n);
      if (budget > 0) requireRest(await counterOf(tenantId), budget);
    },
    close() {
      for (const end of subscriptions) end();
    },
  };
}

function dayIsFull(what: Metered, most: number, used: number, count: number) {
  const nowMs = Date.now();
  return failure(
    ErrorReason.TENANT_LIMIT,
    `the tenant may send ${most} ${what} a day and has room for ${Math.max(0, most - used)} more today, not for ${count}; ` +
      "send again after midnight UTC, or ask the operator for more",
    { metadata: { limit: `${what}_per_day` }, retryAfterMs: nextDayMs(nowMs) - nowMs },
  );
}

function requireRest({ costMicros }: Counter, budget: number): void {
  if (budget === 0 || costMicros < budget) return;
  const nowMs = Date.now();
  throw failure(
    ErrorReason.TENANT_LIMIT,
    `the tenant's budget of ${budget} micro-units for this month is used up; call again next month, or ask the operator ` +
      "for more",
    { metadata: { limit: "cost_budget_micros" }, retryAfterMs: nextMonthMs(nowMs) - nowMs },
  );
}
