import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Work that one process of the installation does at a time; no tenant's.
  await sql`
    create table leases (
      name text primary key,
      holder text not null,
      fence bigint not null,
      expires_at timestamptz not null
    );
    grant select, insert, update, delete on leases to ${sql.raw(appRole)}`.execute(db);

  // The outbox: what webhooks are to be told of, written in the transaction that makes it true.
  await sql`
    create table webhook_events (
      tenant_id uuid not null references tenants,
      id uuid not null,
      type text not null,
      data json not null,
      occurred_at timestamptz not null default now(),
      primary key (tenant_id, id)
    )`.execute(db);
  await protectTenantTable(db, "webhook_events", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "webhook_events");
}
