import { type Kysely, sql } from "kysely";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // What a tenant used on a day, UTC, by when it was received.
  await sql`
    create table usage_days (
      tenant_id uuid not null references tenants,
      day date not null,
      events bigint not null default 0,
      samples bigint not null default 0,
      active_stores bigint not null default 0,
      active_series bigint not null default 0,
      invocations bigint not null default 0,
      calls bigint not null default 0,
      cost_micros double precision not null default 0,
      primary key (tenant_id, day)
    )`.execute(db);
  await protectTenantTable(db, "usage_days", ["select", "insert", "update", "delete"]);

  // What is not yet in there: a row for each transaction, for a counter that all of them change would make them wait for each other.
  await sql`
    create table usage_increments (
      tenant_id uuid not null,
      id uuid not null,
      day date not null default (now() at time zone 'utc')::date,
      events bigint not null default 0,
      samples bigint not null default 0,
      active_stores bigint not null default 0,
      active_series bigint not null default 0,
      invocations bigint not null default 0,
      calls bigint not null default 0,
      primary key (tenant_id, id)
    )`.execute(db);
  await protectTenantTable(db, "usage_increments", ["select", "insert", "delete"]);
  await protectQueueTable(db, "usage_increments");

  // The stores and series that were heard from on a day, to count each once.
  await sql`
    create table usage_active (
      tenant_id uuid not null,
      day date not null,
      id uuid not null,
      primary key (tenant_id, day, id)
    )`.execute(db);
  await protectTenantTable(db, "usage_active", ["select", "insert", "delete"]);
  await protectQueueTable(db, "usage_active");
}
