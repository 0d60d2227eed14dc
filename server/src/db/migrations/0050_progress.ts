import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";
import { protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // One row is one file of one client. key is a hash of both names: a filename may be too long for an index. Nothing that
  // changes with every report is indexed, so that an update stays on its page. has_errors is a column of its own for that.
  await sql`
    create table progress_files (
      tenant_id uuid not null references tenants,
      id uuid not null,
      key uuid not null,
      client_krn text collate "C" not null,
      filename text collate "C" not null,
      filename_start text collate "C" not null generated always as (left(filename, 100)) stored,
      email text collate "C" not null,
      api_key_id uuid,
      done bigint not null default 0,
      warn bigint not null default 0,
      failed bigint not null default 0,
      total bigint,
      version bigint not null default 0,
      sequence bigint not null default 0,
      recent double precision not null default 0,
      error_count bigint not null default 0,
      warning_count bigint not null default 0,
      has_errors boolean not null default false,
      has_update_ids boolean not null default false,
      created_at timestamptz not null,
      updated_at timestamptz not null,
      completed_at timestamptz,
      primary key (tenant_id, id),
      unique (tenant_id, key),
      check (done >= 0 and warn >= 0 and failed >= 0 and total >= 0)
    ) with (fillfactor = 70);
    create index progress_files_client on progress_files (tenant_id, client_krn, id);
    create index progress_files_email on progress_files (tenant_id, email, id);
    create index progress_files_filename on progress_files (tenant_id, filename_start, id);
    create index progress_files_open on progress_files (tenant_id, id) where completed_at is null;
    create index progress_files_open_client on progress_files (tenant_id, client_krn, id) where completed_at is null;
    create index progress_files_errors on progress_files (tenant_id, id) where has_errors;
    create index progress_files_update_ids on progress_files (tenant_id, completed_at)
      where has_update_ids`.execute(db);
  await protectTenantTable(db, "progress_files", ["select", "insert", "update"]);

  await sql`
    create table progress_line_issues (
      tenant_id uuid not null,
      file_id uuid not null,
      kind smallint not null check (kind in (1, 2)),
      line bigint not null,
      id uuid not null,
      message text not null,
      raw_line text not null,
      reported_at timestamptz not null,
      primary key (tenant_id, file_id, kind, line, id)
    )`.execute(db);
  await protectTenantTable(db, "progress_line_issues", ["select", "insert"]);

  // Recognises a report that is sent again.
  await sql`
    create table progress_updates (
      tenant_id uuid not null,
      file_id uuid not null,
      key uuid not null,
      digest bytea not null check (octet_length(digest) = 16),
      received_at timestamptz not null,
      primary key (tenant_id, file_id, key)
    )`.execute(db);
  await protectTenantTable(db, "progress_updates", ["select", "insert", "delete"]);

  // The changes of a tenant in the order of their commits: whoever writes some takes their numbers from the feed's row and
  // holds it until the commit, so that no number becomes visible before a smaller one. pruned: up to here they are gone.
  await sql`
    create table progress_feeds (
      tenant_id uuid primary key references tenants,
      sequence bigint not null,
      pruned bigint not null default 0
    )`.execute(db);
  await protectTenantTable(db, "progress_feeds", ["select", "insert", "update"]);
  await sql`
    create table progress_deltas (
      tenant_id uuid not null,
      sequence bigint not null,
      file_id uuid not null,
      client_krn text collate "C" not null,
      version bigint not null,
      done bigint not null,
      warn bigint not null,
      failed bigint not null,
      total bigint,
      recent double precision not null,
      error_count bigint not null,
      warning_count bigint not null,
      updated_at timestamptz not null,
      completed_at timestamptz,
      primary key (tenant_id, sequence)
    );
    create index progress_deltas_file on progress_deltas (tenant_id, file_id, sequence);
    create index progress_deltas_client on progress_deltas (tenant_id, client_krn, sequence)`.execute(db);
  await protectTenantTable(db, "progress_deltas", ["select", "insert", "delete"]);

  // Messages of Kafka and SQS that could not be counted. Of no tenant: which one was meant is often what is wrong.
  await sql`
    create table progress_set_aside (
      connector text not null,
      position text not null,
      reason text not null,
      payload bytea not null,
      set_aside_at timestamptz not null default now(),
      primary key (connector, position)
    );
    grant select, insert, delete on progress_set_aside to ${sql.raw(appRole)}`.execute(db);
}
