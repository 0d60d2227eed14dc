import { type Kysely, sql } from "kysely";
import type { Context } from "../../context.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant, withWorker } from "../../db/tenant.ts";
import { startLoop } from "../../jobs/loop.ts";
import type { Worker } from "../../jobs/workers.ts";
import { lockEvaluation } from "./changes.ts";

const everyMs = 3_600_000;
/** Alerts that one transaction removes, with all their versions. */
const maxAlerts = 1_000;

/** Removes alerts that were resolved too long ago. */
export function startAlertRetention({ db, config, logger }: Context): Worker {
  const days = config.metrics.alerts.retentionDays;
  return startLoop({
    name: "alert retention",
    idleMs: everyMs,
    logger,
    async step(signal) {
      if (days > 0) await removeOldAlerts(db, days, signal);
      return "idle";
    },
  });
}

/** Removes alerts that were resolved more than so many days ago; streams cannot go on before the last of their changes. */
export async function removeOldAlerts(
  db: Kysely<Database>,
  days: number,
  signal?: AbortSignal,
): Promise<void> {
  const tenants = await withWorker(db, (trx) =>
    trx.selectFrom("alert_evaluations").select("tenant_id").execute(),
  );
  for (const { tenant_id: tenantId } of tenants) {
    let removed: number;
    do {
      if (signal?.aborted) return;
      removed = await withTenant(db, tenantId, async (trx) => {
        await lockEvaluation(trx, tenantId);
        const { rows } = await sql<{ count: number }>`
          with gone as (
            delete from alerts where tenant_id = ${tenantId}::uuid and id in (
              select id from alerts
              where tenant_id = ${tenantId}::uuid and state = 'resolved'
                and resolved_at < now() - ${days} * interval '1 day'
              order by resolved_at limit ${maxAlerts}
            ) returning closed_sequence
          ), last as (select count(*)::int as count, max(closed_sequence) as sequence from gone)
          update alert_evaluations set removed_sequence = greatest(removed_sequence, last.sequence)
          from last where tenant_id = ${tenantId}::uuid
          returning last.count`.execute(trx);
        return rows[0]?.count ?? 0;
      });
    } while (removed === maxAlerts);
  }
}
