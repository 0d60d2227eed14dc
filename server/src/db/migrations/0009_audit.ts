import { type Kysely, sql } from "kysely";
import { protectTenantTable } from "./tenant-table.ts";

/**
 * The audit log. Nobody is granted a change: an entry can be added and read. There are no foreign keys, as an entry
 * outlives whom and what it is about.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table audit_entries (
      tenant_id uuid not null,
      sequence bigint not null check (sequence > 0),
      id uuid not null,
      occurred_at timestamptz not null,
      actor_type text not null,
      user_id uuid,
      email text not null,
      api_key_id uuid,
      api_key_name text not null,
      identity_provider_id uuid,
      session_id uuid,
      platform_admin boolean not null,
      address text not null,
      user_agent text not null,
      method text not null,
      resource_type text not null,
      resource_id text not null,
      outcome text not null,
      error_reason text not null,
      call_id text not null,
      trace_id text not null,
      details json not null,
      previous_hash bytea not null,
      hash bytea not null,
      primary key (tenant_id, sequence)
    );
    create index audit_entries_user on audit_entries (tenant_id, user_id, sequence) where user_id is not null;
    create index audit_entries_resource on audit_entries (tenant_id, resource_id, sequence)
      where resource_id <> ''`.execute(db);
  await protectTenantTable(db, "audit_entries", ["select", "insert"]);
}
