import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { storeNames } from "./changes.ts";
import { tellOf } from "./notices.ts";
import { isSilenced, type SilenceRow } from "./silences.ts";
import type { Pair } from "./subjects.ts";

/** Alerts that fired under a silence which is over: people are still to be told. */
export function owedNotices(pairs: Iterable<Pair>, silences: readonly SilenceRow[], nowMs: number): Pair[] {
  return [...pairs].filter(({ alert }) => {
    if (!alert?.muted || alert.state !== "firing") return false;
    const { store_id: storeId, rule_id: ruleId, labels } = alert;
    return !isSilenced(silences, { storeId, ruleId, labels }, nowMs);
  });
}

/** Tells of those that still fire: what was written in this transaction before may have ended some. */
export async function tellOwed(
  trx: TenantTransaction,
  tenantId: string,
  pairs: readonly Pair[],
): Promise<void> {
  const ids = pairs.flatMap(({ alert }) => alert?.id ?? []);
  if (ids.length === 0) return;
  const { rows } = await sql<{ id: string }>`
    update alerts set muted = false
    where tenant_id = ${tenantId}::uuid and id = any(${ids}::uuid[]) and muted and state = 'firing'
    returning id`.execute(trx);
  const still = new Set(rows.map(({ id }) => id));
  const notices = pairs.flatMap(({ alert, rule }) =>
    alert && still.has(alert.id)
      ? [{ alert, rule, from: "pending", to: "firing", atMs: alert.since.getTime() } as const]
      : [],
  );
  const names = await storeNames(
    trx,
    tenantId,
    notices.map(({ alert }) => alert.store_id),
  );
  await tellOf(trx, tenantId, notices, names);
}
