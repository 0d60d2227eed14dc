import { type Selectable, sql } from "kysely";
import type { SilencesTable } from "../../db/schema/alerts.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

export type SilenceRow = Selectable<SilencesTable>;

/** What a silence looks at. */
export interface Silenceable {
  readonly storeId: string;
  readonly ruleId: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The silences that are not over, those of later included. */
export function currentSilences(trx: TenantTransaction, tenantId: string): Promise<SilenceRow[]> {
  return trx
    .selectFrom("silences")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("ends_at", ">", sql<Date>`now()`)
    .execute();
}

/** Whether a silence keeps the alert quiet at a time. */
export function isSilenced(silences: readonly SilenceRow[], alert: Silenceable, atMs: number): boolean {
  return silences.some((silence) => keepsQuiet(silence, alert, atMs));
}

function keepsQuiet(silence: SilenceRow, { storeId, ruleId, labels }: Silenceable, atMs: number): boolean {
  if (silence.starts_at.getTime() > atMs || silence.ends_at.getTime() <= atMs) return false;
  if (silence.store_id !== null && silence.store_id !== storeId) return false;
  if (silence.rule_id !== null && silence.rule_id !== ruleId) return false;
  return hasLabels(labels, silence.labels);
}

/** Whether labels have all the wanted ones. */
export function hasLabels(
  labels: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string>>,
): boolean {
  for (const name in wanted) if (labels[name] !== wanted[name]) return false;
  return true;
}
