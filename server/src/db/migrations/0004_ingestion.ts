import { type Kysely, sql } from "kysely";
import { protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Partitioned by the time of receipt, which a UUIDv7 begins with: the late events of a gateway that was offline
  // arrive in today's partition. body is json, for jsonb costs more to write and is never searched.
  await sql`
    create table events (
      tenant_id uuid not null,
      id uuid not null,
      event_id text not null,
      event_type text not null,
      user_id text,
      session_id text,
      severity smallint not null,
      priority smallint not null,
      occurred_at timestamptz not null,
      body json not null,
      primary key (tenant_id, id)
    ) partition by range (id)`.execute(db);
  await protectTenantTable(db, "events", ["select", "insert", "delete"]);

  await sql`
    create table event_keys (
      tenant_id uuid not null,
      key uuid not null,
      event_row uuid not null,
      digest bytea not null check (octet_length(digest) = 16),
      primary key (tenant_id, key)
    )`.execute(db);
  await protectTenantTable(db, "event_keys", ["select", "insert", "delete"]);
}
