import { type RawBuilder, sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { Severity } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { emitWebhookEvents, webhooksAskFor } from "../../webhooks/emit.ts";
import type { ProcessedEventData } from "../../webhooks/event-types.ts";

const words: Record<number, ProcessedEventData["severity"]> = {
  [Severity.DEBUG]: "debug",
  [Severity.INFO]: "info",
  [Severity.WARNING]: "warning",
  [Severity.ERROR]: "error",
  [Severity.CRITICAL]: "critical",
};

/** Tells the tenant's webhooks of the events `e` of the condition, where any of them asks for that. */
export async function tellWebhooks(
  trx: TenantTransaction,
  tenantId: string,
  condition: RawBuilder<unknown>,
): Promise<void> {
  if (!(await webhooksAskFor(trx, tenantId, "event.processed"))) return;
  const { rows } = await sql<{
    event_id: string;
    event_type: string;
    severity: number;
    user_id: string | null;
    session_id: string | null;
    occurred_at: Date;
  }>`
    select e.event_id, e.event_type, e.severity, e.user_id, e.session_id, e.occurred_at
    from events e where e.tenant_id = ${tenantId} and ${condition}`.execute(trx);
  const bodies = rows.map(
    (row): ProcessedEventData => ({
      event_id: row.event_id,
      event_type: row.event_type,
      severity: words[row.severity] ?? "info",
      timestamp: row.occurred_at.toISOString(),
      ...(row.user_id && { user_id: row.user_id }),
      ...(row.session_id && { session_id: row.session_id }),
    }),
  );
  await emitWebhookEvents(trx, tenantId, "event.processed", bodies);
}
