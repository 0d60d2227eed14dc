import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type { WebhooksTable } from "../db/schema/webhooks.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { askingFor } from "./emit.ts";

/** A webhook with the number of deliveries that wait for it. */
export type WebhookRow = Selectable<WebhooksTable> & { readonly pending: bigint };

const pending = sql<bigint>`(select count(*) from deliveries d
  where d.tenant_id = webhooks.tenant_id and d.receiver = webhooks.id and d.due_at is not null)`.as(
  "pending",
);

export async function countWebhooks(trx: TenantTransaction, tenantId: string): Promise<number> {
  const { n } = await trx
    .selectFrom("webhooks")
    .select((eb) => eb.fn.countAll<bigint>().as("n"))
    .where("tenant_id", "=", tenantId)
    .executeTakeFirstOrThrow();
  return Number(n);
}

export async function insertWebhook(
  trx: TenantTransaction,
  webhook: Insertable<WebhooksTable>,
): Promise<WebhookRow> {
  const row = await trx.insertInto("webhooks").values(webhook).returningAll().executeTakeFirstOrThrow();
  return { ...row, pending: 0n };
}

export function getWebhook(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<WebhookRow | undefined> {
  return trx
    .selectFrom("webhooks")
    .selectAll()
    .select(pending)
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

/** A webhook that stays as it is until the transaction ends. */
export function lockWebhook(trx: TenantTransaction, tenantId: string, id: string) {
  return trx
    .selectFrom("webhooks")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .forUpdate()
    .executeTakeFirst();
}

export interface WebhookQuery {
  readonly eventType: string;
  readonly enabled: boolean | undefined;
}

/** A page of webhooks, newest first, beyond the id `after`. */
export function listWebhooks(
  trx: TenantTransaction,
  tenantId: string,
  { eventType, enabled }: WebhookQuery,
  limit: number,
  after: string | undefined,
): Promise<WebhookRow[]> {
  let select = trx
    .selectFrom("webhooks")
    .selectAll()
    .select(pending)
    .where("tenant_id", "=", tenantId)
    .orderBy("id", "desc")
    .limit(limit);
  if (eventType) select = select.where(sql<boolean>`event_types && ${askingFor(eventType)}::text[]`);
  if (enabled !== undefined) select = select.where("enabled", "=", enabled);
  if (after !== undefined) select = select.where("id", "<", after);
  return select.execute();
}

/** A change by a caller: counts the version up. */
export async function updateWebhook(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
  changes: Updateable<WebhooksTable>,
): Promise<void> {
  await trx
    .updateTable("webhooks")
    .set({ ...changes, version: sql<bigint>`version + 1` })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .execute();
}

export async function deleteWebhook(trx: TenantTransaction, tenantId: string, id: string): Promise<void> {
  await trx.deleteFrom("webhooks").where("tenant_id", "=", tenantId).where("id", "=", id).execute();
}
