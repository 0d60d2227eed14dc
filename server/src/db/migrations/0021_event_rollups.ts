import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

/** What events are folded into; ingestion/README.md says why it looks like this. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // For the rate of the last minute and for trimming.
  await sql`create index event_batches_created on event_batches (tenant_id, created_at)`.execute(db);

  // One row a tenant, locked by whoever changes its rollups.
  await sql`
    create table event_rollup_state (
      tenant_id uuid primary key,
      accepted bigint not null default 0,
      last_numbers integer[] not null default '{0,0,0,0}',
      names_epoch integer not null default 0,
      trimmed_xid xid8 not null default '0',
      dropped_until timestamptz not null default '-infinity'
    )`.execute(db);
  await protectTenantTable(db, "event_rollup_state", ["select", "insert", "update"]);

  await sql`
    create table event_names (
      tenant_id uuid not null,
      kind smallint not null,
      number integer not null,
      name text not null,
      seen date not null,
      epoch integer not null,
      primary key (tenant_id, kind, number),
      unique (tenant_id, kind, name)
    )`.execute(db);
  await protectTenantTable(db, "event_names", ["select", "insert", "update", "delete"]);

  await sql`
    create table event_rollups (
      tenant_id uuid not null,
      level smallint not null,
      bucket timestamptz not null,
      version xid8 not null default pg_current_xact_id(),
      summary json not null,
      entries bytea not null,
      primary key (tenant_id, level, bucket)
    );
    -- Packed numbers: compression costs more than it saves.
    alter table event_rollups alter column entries set storage external`.execute(db);
  await protectTenantTable(db, "event_rollups", ["select", "insert", "update", "delete"]);

  await sql`
    create table event_rollup_builds (
      tenant_id uuid not null,
      level smallint not null,
      bucket timestamptz not null,
      due_at timestamptz not null,
      primary key (tenant_id, level, bucket)
    )`.execute(db);
  await protectTenantTable(db, "event_rollup_builds", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "event_rollup_builds");

  await sql`
    create table event_dead_letters (
      tenant_id uuid not null,
      id uuid not null,
      event_row uuid not null,
      reason text not null,
      attempts integer not null,
      failed_at timestamptz not null default now(),
      queued boolean not null default false,
      primary key (tenant_id, id),
      unique (tenant_id, event_row)
    )`.execute(db);
  await protectTenantTable(db, "event_dead_letters", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "event_dead_letters");

  await sql`
    create function drop_event_partitions(until_day date) returns integer
    language plpgsql security definer
    set search_path = pulsewire, pg_temp
    set timezone = 'UTC'
    as $$
    declare
      child text;
      dropped integer := 0;
    begin
      if until_day > current_date - 1 then
        raise exception 'events younger than a day are not dropped' using errcode = 'invalid_parameter_value';
      end if;
      for child in
        select relname from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'events'::regclass and relname ~ '^events_[0-9]{8}$'
          and to_date(substr(relname, 8), 'YYYYMMDD') < until_day
      loop
        execute format('drop table %I', child);
        dropped := dropped + 1;
      end loop;
      -- What no partition took. Forced row security would hide it even from the owner.
      alter table events_default no force row level security;
      delete from events_default where id < uuidv7_at(until_day);
      alter table events_default force row level security;
      return dropped;
    end $$;
    revoke execute on function drop_event_partitions from public;
    grant execute on function drop_event_partitions to ${sql.raw(appRole)}`.execute(db);
}
