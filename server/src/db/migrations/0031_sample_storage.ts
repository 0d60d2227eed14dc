import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

/**
 * Samples in few rows of many: a row for what a flush wrote of a tenant, and, after compaction, rows of series side by side. The table of one
 * row a sample is given up; no release ever filled it.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`drop table samples`.execute(db);
  await sql`
    alter table series add column ref bigint generated always as identity;
    create unique index series_ref on series (tenant_id, ref)`.execute(db);

  // Out of line without compression: zstd has done that, or will.
  await sql`
    create table sample_batches (
      tenant_id uuid not null,
      seq bigint generated always as identity,
      written_at timestamptz not null default now(),
      min_ms bigint not null,
      max_ms bigint not null,
      samples integer not null,
      data bytea not null,
      primary key (tenant_id, seq)
    ) with (
      autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 200,
      toast.autovacuum_vacuum_scale_factor = 0.1, toast.autovacuum_vacuum_threshold = 2000
    );
    alter table sample_batches alter column data set storage external`.execute(db);
  await protectTenantTable(db, "sample_batches", ["select", "insert", "delete"]);
  await protectQueueTable(db, "sample_batches");

  await sql`
    create table sample_blocks (
      tenant_id uuid not null,
      day date not null,
      run bigint not null,
      first_ref bigint not null,
      last_ref bigint not null,
      min_ms bigint not null,
      max_ms bigint not null,
      level smallint not null,
      samples integer not null,
      written_at timestamptz not null default now(),
      data bytea not null,
      primary key (tenant_id, day, run, first_ref, min_ms)
    );
    alter table sample_blocks alter column data set storage external`.execute(db);
  await protectTenantTable(db, "sample_blocks", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "sample_blocks");

  // Series of deleted stores whose samples are still in blocks.
  await sql`
    create table deleted_series (
      tenant_id uuid not null,
      ref bigint not null,
      primary key (tenant_id, ref)
    )`.execute(db);
  await protectTenantTable(db, "deleted_series", ["select", "insert", "delete"]);
  await protectQueueTable(db, "deleted_series");

  await sql`
    create sequence sample_runs;
    grant usage on sequence sample_runs to ${sql.raw(appRole)}`.execute(db);
}
