import { type Kysely, sql } from "kysely";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Who is told of it whatever they subscribed to: the targets of an alert rule.
  await sql`alter table webhook_events add column targets jsonb`.execute(db);

  await sql`
    create table webhooks (
      tenant_id uuid not null references tenants,
      id uuid not null,
      url text not null,
      description text not null,
      event_types text[] not null,
      filter jsonb not null,
      group_wait_ms integer not null,
      enabled boolean not null,
      disabled_reason text not null default '' check (disabled_reason in ('', 'BY_CALLER', 'GONE', 'FAILING')),
      disabled_at timestamptz,
      secret text not null,
      previous_secret text,
      previous_secret_expires_at timestamptz,
      last_success_at timestamptz,
      last_failure_at timestamptz,
      failing_since timestamptz,
      created_by uuid,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      version bigint not null default 1,
      primary key (tenant_id, id)
    )`.execute(db);
  await protectTenantTable(db, "webhooks", ["select", "insert", "update", "delete"]);
  // The sender reads where a message goes, and writes what it learnt of the receiver.
  await protectQueueTable(db, "webhooks");

  // Deliveries outlive their webhook. `due_at` is null once they have ended; while one is being tried it is the time at
  // which another process may take it over, and `claim` tells who tries it.
  await sql`
    create table deliveries (
      tenant_id uuid not null references tenants,
      id uuid not null,
      receiver uuid not null,
      channel text not null check (channel in ('HTTP', 'EMAIL', 'WHATSAPP')),
      webhook_id uuid,
      destination text not null,
      message_id uuid not null,
      event_type text not null,
      payload json not null,
      subject_ids text[] not null,
      alert_rule_ids uuid[] not null,
      happenings integer not null,
      gathers boolean not null default false,
      status text not null check (status in ('PENDING', 'RETRYING', 'DELIVERED', 'FAILED', 'DISCARDED')),
      attempts jsonb not null default '[]',
      attempt_count integer not null default 0,
      due_at timestamptz,
      claim uuid,
      created_at timestamptz not null,
      finished_at timestamptz,
      replay_of uuid,
      test boolean not null default false,
      primary key (tenant_id, id),
      check ((channel = 'HTTP') = (webhook_id is not null)),
      check ((due_at is null) = (status in ('DELIVERED', 'FAILED', 'DISCARDED')))
    );
    create index deliveries_due on deliveries (tenant_id, receiver, due_at) where due_at is not null;
    create index deliveries_of_receiver on deliveries (tenant_id, receiver, id)`.execute(db);
  await protectTenantTable(db, "deliveries", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "deliveries");
}
