import { randomUUID } from "node:crypto";
import type { Context } from "../../context.ts";
import { type WorkerTransaction, withWorker } from "../../db/tenant.ts";
import { dropLease, type Lease, takeLease } from "../../jobs/lease.ts";
import { startLoop } from "../../jobs/loop.ts";
import type { Worker } from "../../jobs/workers.ts";
import { samplesChannel, tenantsIn } from "../activity.ts";
import { alertsChannel, evaluationChannel } from "./changes.ts";
import { StaleEvaluation, TenantEvaluation } from "./evaluation.ts";

/** How often it is looked whether a tenant is due: in memory, and in the database. */
const lookMs = { memory: 50, database: 1_000 };
/** A process that falls silent is replaced after this time. */
const leaseMs = 10_000;
/** A tenant is evaluated at most every `least`, and at most a fifth of the time, up to a pause of `most`. */
const pauseMs = { least: 200, most: 500, share: 4 };
/** A tenant whose evaluation failed is tried again after this time. */
const retryMs = 1_000;
/** A tenant without news is forgotten after this time; its next timer is in the database. */
const forgetMs = 10 * 60_000;

/** A tenant that this process evaluates, or has tried to. */
interface Held {
  evaluation: TenantEvaluation;
  lease: Lease | undefined;
  leaseEndsMs: number;
  /** When it is evaluated next, whatever comes. */
  dueAtMs: number;
  /** New samples, or a change by a caller. */
  hasNews: boolean;
  notBeforeMs: number;
  newsAtMs: number;
}

/** Evaluates the alert rules of all tenants, each in one process at a time. */
export function startAlertEvaluation({ db, bus, logger }: Context): Worker {
  const holder = randomUUID();
  const held = new Map<string, Held>();
  let lookedAtMs = 0;

  const leaseName = (tenantId: string) => `alerts/${tenantId}`;
  const noteNews = (tenantId: string) => {
    const one = held.get(tenantId);
    if (!one) return;
    one.hasNews = true;
    one.newsAtMs = Date.now();
  };
  const meet = (tenantId: string) => {
    const nowMs = Date.now();
    const known = held.get(tenantId);
    if (known) {
      known.dueAtMs = Math.min(known.dueAtMs, nowMs);
      // It may come while the tenant is being evaluated.
      known.hasNews = true;
      if (!known.lease) known.notBeforeMs = 0;
      return;
    }
    held.set(tenantId, {
      evaluation: new TenantEvaluation(tenantId),
      lease: undefined,
      leaseEndsMs: 0,
      dueAtMs: nowMs,
      hasNews: false,
      notBeforeMs: 0,
      newsAtMs: nowMs,
    });
  };
  const subscriptions = [
    bus.subscribe(samplesChannel, (message) => {
      for (const tenantId of tenantsIn(message)) noteNews(tenantId);
    }),
    bus.subscribe(evaluationChannel, meet),
    bus.onGap(() => {
      for (const one of held.values()) one.hasNews = true;
    }),
  ];

  const lookInDatabase = async () => {
    const nowMs = Date.now();
    if (nowMs - lookedAtMs < lookMs.database) return;
    lookedAtMs = nowMs;
    for (const tenantId of await withWorker(db, dueTenants)) {
      const known = held.get(tenantId);
      // Of what this process evaluates itself it knows better when it is due.
      if (!known?.lease) meet(tenantId);
    }
  };
  const evaluate = async (tenantId: string, one: Held) => {
    const startedMs = Date.now();
    if (startedMs > one.leaseEndsMs - leaseMs / 2) {
      one.lease = await takeLease(db, leaseName(tenantId), holder, leaseMs);
      one.leaseEndsMs = one.lease ? startedMs + leaseMs : 0;
    }
    one.hasNews = false;
    if (!one.lease) {
      // Another process evaluates it; should that one fall silent, the lease ends.
      one.evaluation = new TenantEvaluation(tenantId);
      one.notBeforeMs = startedMs + leaseMs / 2;
      one.dueAtMs = Number.POSITIVE_INFINITY;
      return;
    }
    try {
      const { dueAtMs, changed, empty } = await one.evaluation.evaluate(db, one.lease);
      one.dueAtMs = dueAtMs;
      one.notBeforeMs = afterPause(startedMs);
      if (changed) await bus.publish(alertsChannel(tenantId), "");
      if (empty || Date.now() - one.newsAtMs > forgetMs) await giveUp(tenantId);
    } catch (err) {
      one.evaluation = new TenantEvaluation(tenantId);
      one.lease = undefined;
      one.leaseEndsMs = 0;
      one.dueAtMs = Date.now();
      one.notBeforeMs = afterPause(startedMs);
      if (err instanceof StaleEvaluation) return;
      one.notBeforeMs = Date.now() + retryMs;
      logger.error({ err, tenantId }, "alert rules could not be evaluated; trying again");
    }
  };
  const giveUp = async (tenantId: string) => {
    held.delete(tenantId);
    await dropLease(db, leaseName(tenantId), holder);
  };

  const loop = startLoop({
    name: "alerts",
    idleMs: lookMs.memory,
    logger,
    async step(signal) {
      await lookInDatabase();
      let some = false;
      for (const [tenantId, one] of held) {
        if (signal.aborted) break;
        const nowMs = Date.now();
        if (nowMs < one.notBeforeMs || (!one.hasNews && nowMs < one.dueAtMs)) continue;
        some = true;
        await evaluate(tenantId, one);
      }
      return some ? "more" : "idle";
    },
  });
  return {
    async close() {
      for (const end of subscriptions) end();
      await loop.close();
      for (const [tenantId, { lease }] of held) {
        if (!lease) continue;
        await giveUp(tenantId);
        // So that another process takes over at once.
        await bus.publish(evaluationChannel, tenantId);
      }
    },
  };
}

/** When what has begun then and ended now may be done again. */
function afterPause(startedMs: number): number {
  const nowMs = Date.now();
  return nowMs + Math.min(Math.max(pauseMs.least, (nowMs - startedMs) * pauseMs.share), pauseMs.most);
}

async function dueTenants(trx: WorkerTransaction): Promise<string[]> {
  const rows = await trx
    .selectFrom("alert_evaluations")
    .select("tenant_id")
    .where("due_at", "<=", new Date())
    .execute();
  return rows.map(({ tenant_id }) => tenant_id);
}
