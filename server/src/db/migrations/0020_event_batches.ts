import { type Kysely, sql } from "kysely";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

/** Rows of events that one batch of those that were there before takes. */
const backfillRows = 10_000;

export async function up(db: Kysely<unknown>): Promise<void> {
  // What is folded and filtered has columns of its own, whatever becomes of the body. `batch` says which transaction wrote
  // the row; of rows that are there already, the migration's.
  await sql`
    alter table events
      add column metrics json,
      add column source_service text,
      add column batch xid8 not null default pg_current_xact_id()`.execute(db);
  // Forced row security would hide the rows even from the owner.
  await sql`alter table events no force row level security`.execute(db);
  await sql`
    update events set metrics = body -> 'metrics', source_service = body -> 'source' ->> 'service'
    where body -> 'metrics' is not null or body -> 'source' ->> 'service' is not null`.execute(db);

  await sql`
    create table event_batches (
      tenant_id uuid not null,
      xid xid8 not null default pg_current_xact_id(),
      first_id uuid not null,
      last_id uuid not null,
      events integer not null check (events > 0),
      event_ids uuid[],
      created_at timestamptz not null default now(),
      attempts smallint not null default 0,
      next_attempt_at timestamptz not null default now(),
      claimed_by text,
      claimed_until timestamptz,
      error text,
      processed_at timestamptz,
      primary key (tenant_id, xid, first_id)
    );
    create index event_batches_pending on event_batches (tenant_id, xid) where processed_at is null`.execute(
    db,
  );
  // uuid has no min and max before PostgreSQL 18.
  await sql`
    insert into event_batches (tenant_id, first_id, last_id, events)
    select tenant_id, (array_agg(id order by id))[1], (array_agg(id order by id desc))[1], count(*)
    from (
      select tenant_id, id, (row_number() over (partition by tenant_id order by id) - 1) / ${sql.lit(backfillRows)} as part
      from events
    ) as numbered
    group by tenant_id, part`.execute(db);
  await sql`alter table events force row level security`.execute(db);
  await protectTenantTable(db, "event_batches", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "event_batches");
}
