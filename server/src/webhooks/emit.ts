import type { JsonObject } from "@bufbuild/protobuf";
import { newResourceId } from "../auth/ids.ts";
import type { TenantTransaction } from "../db/tenant.ts";

/** What webhooks can be told of (EventFlow's `function.*`; `alert.*` and `progress.completed` are ours). */
export type WebhookEventType =
  | "function.created"
  | "function.updated"
  | "function.deleted"
  | "function.invoked"
  | "function.failed"
  | "alert.pending"
  | "alert.firing"
  | "alert.acknowledged"
  | "alert.recovering"
  | "alert.resolved"
  | "progress.completed";

/**
 * Puts an event into the outbox, in the caller's transaction: it is sent if and only if that commits, to the endpoints that
 * ask for its type then. `data` is the event's body for the receiver, and holds no secrets. Returns the event's id, which
 * receivers see as `webhook-id`.
 */
export async function emitWebhookEvent(
  trx: TenantTransaction,
  tenantId: string,
  type: WebhookEventType,
  data: JsonObject,
): Promise<string> {
  const id = newResourceId();
  await trx
    .insertInto("webhook_events")
    .values({ tenant_id: tenantId, id, type, data: JSON.stringify(data) })
    .execute();
  return id;
}
