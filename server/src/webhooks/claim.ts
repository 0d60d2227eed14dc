/** What is due, claimed by one process at a time. */
import { type Kysely, sql } from "kysely";
import type { DeliveryChannel } from "../db/schema/webhooks.ts";
import type { Database } from "../db/schema.ts";
import { withWorker } from "../db/tenant.ts";
import type { Happening } from "./payload.ts";

/** A delivery that this process is to try. */
export interface ClaimedDelivery {
  readonly tenantId: string;
  readonly id: string;
  readonly receiver: string;
  readonly channel: DeliveryChannel;
  readonly destination: string;
  readonly messageId: string;
  readonly payload: Happening;
  /** How often it was tried before. */
  readonly attempts: number;
  readonly createdMs: number;
  readonly claim: string;
  /** Of a webhook that is there and enabled; else undefined. */
  readonly webhook: ClaimedWebhook | undefined;
}

export interface ClaimedWebhook {
  readonly id: string;
  /** Sealed. */
  readonly secret: string;
  readonly previousSecret: string | null;
  readonly previousSecretExpiresAt: Date | null;
}

/** A receiver for whom something waits, and since or until when. */
export interface WaitingReceiver {
  readonly tenantId: string;
  readonly receiver: string;
  readonly dueMs: number;
}

/** How much of a receiver's is to be claimed. */
export type Wanted = Pick<WaitingReceiver, "tenantId" | "receiver"> & { readonly limit: number };

export interface Claims {
  /** Says what to claim, given everyone for whom something waits. */
  choose(waiting: readonly WaitingReceiver[]): readonly Wanted[];
  readonly claim: string;
  readonly nowMs: number;
  /** When somebody else may take over what is not finished. */
  readonly leaseEndMs: number;
}

/** Claims deliveries that are due, across tenants. */
export function claimDue(
  db: Kysely<Database>,
  { choose, claim, nowMs, leaseEndMs }: Claims,
): Promise<ClaimedDelivery[]> {
  return withWorker(db, async (worker) => {
    // One step down the index for each receiver, however much waits for it.
    const waiting = await sql<{ tenant_id: string; receiver: string; due_at: Date }>`
      with recursive waiting as (
        (select tenant_id, receiver, due_at from deliveries where due_at is not null
          order by tenant_id, receiver, due_at limit 1)
        union all
        select next.tenant_id, next.receiver, next.due_at
        from waiting w cross join lateral (
          select tenant_id, receiver, due_at from deliveries
          where due_at is not null and (tenant_id, receiver) > (w.tenant_id, w.receiver)
          order by tenant_id, receiver, due_at limit 1
        ) next
      )
      select tenant_id, receiver, due_at from waiting`.execute(worker);
    const wanted = choose(
      waiting.rows.map((row) => ({
        tenantId: row.tenant_id,
        receiver: row.receiver,
        dueMs: row.due_at.getTime(),
      })),
    );
    if (wanted.length === 0) return [];
    const { rows } = await sql<ClaimedRow>`
      with due as (
        select d.tenant_id, d.id
        from unnest(${wanted.map(({ tenantId }) => tenantId)}::uuid[],
          ${wanted.map(({ receiver }) => receiver)}::uuid[], ${wanted.map(({ limit }) => limit)}::int[])
          as wanted (tenant_id, receiver, n)
        cross join lateral (
          select tenant_id, id from deliveries
          where tenant_id = wanted.tenant_id and receiver = wanted.receiver and due_at <= ${new Date(nowMs)}
          order by due_at limit wanted.n
          for update skip locked
        ) d
      ), claimed as (
        update deliveries d set due_at = ${new Date(leaseEndMs)}, claim = ${claim}::uuid
        from due where d.tenant_id = due.tenant_id and d.id = due.id
        returning d.*
      )
      select c.tenant_id, c.id, c.receiver, c.channel, c.destination, c.message_id, c.payload, c.attempt_count,
        c.created_at, w.id as webhook_id, w.secret, w.previous_secret, w.previous_secret_expires_at
      from claimed c left join webhooks w
        on w.tenant_id = c.tenant_id and w.id = c.webhook_id and w.enabled`.execute(worker);
    return rows.map((row) => claimedDelivery(row, claim));
  });
}

interface ClaimedRow {
  tenant_id: string;
  id: string;
  receiver: string;
  channel: DeliveryChannel;
  destination: string;
  message_id: string;
  payload: Happening;
  attempt_count: number;
  created_at: Date;
  webhook_id: string | null;
  secret: string;
  previous_secret: string | null;
  previous_secret_expires_at: Date | null;
}

function claimedDelivery(row: ClaimedRow, claim: string): ClaimedDelivery {
  return {
    tenantId: row.tenant_id,
    id: row.id,
    receiver: row.receiver,
    channel: row.channel,
    destination: row.destination,
    messageId: row.message_id,
    payload: row.payload,
    attempts: row.attempt_count,
    createdMs: row.created_at.getTime(),
    claim,
    webhook:
      row.webhook_id === null
        ? undefined
        : {
            id: row.webhook_id,
            secret: row.secret,
            previousSecret: row.previous_secret,
            previousSecretExpiresAt: row.previous_secret_expires_at,
          },
  };
}
