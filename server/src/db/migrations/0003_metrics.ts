import { type Kysely, sql } from "kysely";
import { protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table stores (
      tenant_id uuid not null references tenants,
      id uuid not null,
      name text not null,
      description text not null default '',
      expected_interval_ms bigint check (expected_interval_ms > 0),
      labels jsonb not null default '{}',
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      primary key (tenant_id, id),
      unique (tenant_id, name)
    )`.execute(db);
  await protectTenantTable(db, "stores", ["select", "insert", "update", "delete"]);

  // Labels by their digest: an index entry has room for 2,700 bytes only.
  await sql`
    create table series (
      tenant_id uuid not null,
      id uuid not null,
      store_id uuid not null,
      name text not null,
      labels jsonb not null default '{}',
      kind text not null,
      unit text not null default '',
      created_at timestamptz not null default now(),
      primary key (tenant_id, id),
      foreign key (tenant_id, store_id) references stores on delete cascade
    );
    create unique index series_identity on series (tenant_id, store_id, name, md5(labels::text))`.execute(db);
  await protectTenantTable(db, "series", ["select", "insert", "update", "delete"]);

  // No foreign key: checking it would cost more than writing the row.
  await sql`
    create table samples (
      tenant_id uuid not null,
      series_id uuid not null,
      ts timestamptz not null,
      value double precision not null,
      primary key (tenant_id, series_id, ts)
    ) partition by range (ts)`.execute(db);
  await protectTenantTable(db, "samples", ["select", "insert", "update", "delete"]);
}
