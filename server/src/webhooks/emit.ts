import { sql } from "kysely";
import { newResourceId } from "../auth/ids.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import type { WebhookEventData, WebhookEventType } from "./event-types.ts";
import { deliveryTargets, type Targets } from "./receiver.ts";

export interface EmitOptions {
  /** Targets of an alert rule: they get the event whatever they subscribed to. */
  readonly targets?: Targets;
}

/**
 * Puts an event into the outbox, in the caller's transaction: it is sent if and only if that commits, to the webhooks that
 * ask for its type then, and to `targets`. `data` is the event's body for the receiver, and holds no secrets; what filters
 * and the delivery log need of it stands at {@link WebhookEventData}. Returns the event's id, which receivers see as
 * `webhook-id`.
 */
export async function emitWebhookEvent<Type extends WebhookEventType>(
  trx: TenantTransaction,
  tenantId: string,
  type: Type,
  data: WebhookEventData[Type],
  { targets = [] }: EmitOptions = {},
): Promise<string> {
  const id = newResourceId();
  const told = deliveryTargets(targets);
  await trx
    .insertInto("webhook_events")
    .values({
      tenant_id: tenantId,
      id,
      type,
      data: JSON.stringify(data),
      targets: told.length > 0 ? JSON.stringify(told) : null,
    })
    .execute();
  return id;
}

/**
 * The same for many events of one type, in one statement, which writes nothing while no webhook of the tenant asks for the
 * type: for `event.processed`, of which there are many.
 */
export async function emitWebhookEvents<Type extends WebhookEventType>(
  trx: TenantTransaction,
  tenantId: string,
  type: Type,
  bodies: readonly WebhookEventData[Type][],
): Promise<void> {
  if (bodies.length === 0) return;
  await sql`
    insert into webhook_events (tenant_id, id, type, data)
    select ${tenantId}::uuid, id, ${type}, data
    from unnest(${bodies.map(newResourceId)}::uuid[], ${bodies.map((data) => JSON.stringify(data))}::json[])
      as told (id, data)
    where exists (
      select from webhooks
      where tenant_id = ${tenantId}::uuid and enabled and event_types && ${askingFor(type)}::text[]
    )`.execute(trx);
}

/** Whether a webhook of the tenant asks for the type: to spare work on bodies that nobody would get. */
export async function webhooksAskFor(
  trx: TenantTransaction,
  tenantId: string,
  type: WebhookEventType,
): Promise<boolean> {
  const found = await trx
    .selectFrom("webhooks")
    .select("id")
    .where("tenant_id", "=", tenantId)
    .where("enabled", "=", true)
    .where(sql<boolean>`event_types && ${askingFor(type)}::text[]`)
    .limit(1)
    .executeTakeFirst();
  return found !== undefined;
}

/** The entries of `event_types` that ask for a type. */
export function askingFor(type: string): string[] {
  return [type, `${type.split(".")[0]}.*`, "*"];
}
