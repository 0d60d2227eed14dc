import { create, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Kysely, sql } from "kysely";
import { EventSchema, EventSourceSchema, type Severity } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { eventKey } from "../../ingestion/words.ts";
import { appRole } from "../roles.ts";
import { protectTenantTable } from "./tenant-table.ts";

/**
 * Events keep their bytes as they were sent in place of JSON made of them, and the keys by which they are recognised can be
 * dropped when they are old.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table event_keys rename to event_keys_before`.execute(db);
  await sql`alter index event_keys_pkey rename to event_keys_before_pkey`.execute(db);
  // Keys that are UUIDv7 lie by their own time, all others are hashes above every time. So a key has one place, where the
  // index knows it, and a whole week can be dropped. digest: null where the event's bytes are not known as they were sent;
  // then every body counts as the same.
  await sql`
    create table event_keys (
      tenant_id uuid not null,
      key uuid not null,
      event_row uuid not null,
      digest uuid,
      primary key (tenant_id, key)
    ) partition by range (key)`.execute(db);
  await protectTenantTable(db, "event_keys", ["select", "insert", "delete"]);
  await sql`
    create table event_keys_hashed partition of event_keys for values from ('ff000000-0000-0000-0000-000000000000') to (maxvalue);
    create table event_keys_default partition of event_keys default`.execute(db);
  for (const name of ["event_keys_hashed", "event_keys_default"]) {
    const table = sql.table(name);
    // Nobody but the owner reaches a partition; the policy lets its two functions below sweep it.
    await sql`
      alter table ${table} enable row level security;
      alter table ${table} force row level security;
      create policy sweep on ${table} to current_user using (current_setting('pulsewire.sweeping', true) = 'on')`.execute(
      db,
    );
  }

  // The subquery is evaluated once a statement, the bare setting once a row.
  for (const name of ["events", "event_keys"]) {
    const tenant = sql`tenant_id = (select nullif(current_setting('pulsewire.tenant_id', true), '')::uuid)`;
    await sql`alter policy tenant on ${sql.table(name)} using (${tenant}) with check (${tenant})`.execute(db);
  }

  await sql`alter table events add column encoded bytea`.execute(db);
  await convertEvents(db);
  await sql`drop table event_keys_before`.execute(db);
  await sql`alter table events alter column encoded set not null, drop column body`.execute(db);
  await replaceEnsurePartitions(db);
  await createSweep(db);
}

interface OldEvent {
  tenant_id: string;
  id: string;
  event_id: string;
  event_type: string;
  user_id: string | null;
  session_id: string | null;
  severity: number;
  priority: number;
  occurred_at: Date;
  body: {
    title?: string;
    message?: string;
    source?: { service?: string; endpoint?: string; method?: string; version?: string };
    context?: JsonObject;
    metrics?: Record<string, number>;
    metadata?: JsonObject;
    payload?: JsonObject;
  };
}

const pageRows = 1_000;

async function convertEvents(db: Kysely<unknown>): Promise<void> {
  // Forced row security would hide the rows even from the owner.
  await sql`
    alter table events no force row level security;
    alter table event_keys no force row level security`.execute(db);
  for (let after: OldEvent | undefined; ; ) {
    const { rows } = await sql<OldEvent>`
      select tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, body
      from events
      where ${after ? sql<boolean>`(tenant_id, id) > (${after.tenant_id}::uuid, ${after.id}::uuid)` : sql<boolean>`true`}
      order by tenant_id, id limit ${pageRows}`.execute(db);
    if (rows.length === 0) break;
    await sql`
      update events set encoded = t.encoded
      from unnest(${rows.map((row) => row.tenant_id)}::uuid[], ${rows.map((row) => row.id)}::uuid[], ${rows.map(encode)}::bytea[])
        as t (tenant_id, id, encoded)
      where events.tenant_id = t.tenant_id and events.id = t.id`.execute(db);
    await sql`
      insert into event_keys (tenant_id, key, event_row)
      select * from unnest(${rows.map((row) => row.tenant_id)}::uuid[], ${rows.map((row) => eventKey(row.event_id))}::uuid[],
        ${rows.map((row) => row.id)}::uuid[])`.execute(db);
    after = rows.at(-1);
  }
  await sql`
    alter table events force row level security;
    alter table event_keys force row level security`.execute(db);
}

function encode(row: OldEvent): string {
  const { source, ...body } = row.body;
  const event = create(EventSchema, {
    ...body,
    eventId: row.event_id,
    eventType: row.event_type,
    severity: row.severity as Severity,
    ...(source && { source: create(EventSourceSchema, source) }),
    userId: row.user_id ?? "",
    sessionId: row.session_id ?? "",
    timestamp: timestampFromDate(row.occurred_at),
    priority: row.priority,
  });
  return `\\x${Buffer.from(toBinary(EventSchema, event)).toString("hex")}`;
}

/** The function of the partitions, with weeks of `event_keys`, too. */
async function replaceEnsurePartitions(db: Kysely<unknown>): Promise<void> {
  await sql`
    create or replace function ensure_partitions(parent text, from_day date, to_day date) returns integer
    language plpgsql security definer
    set search_path = pulsewire, pg_temp
    set timezone = 'UTC'
    as $$
    declare
      step integer;
      -- What the range is of, and whether its bounds are UUIDs.
      part_key text;
      day date := from_day;
      bounds text[];
      child text;
      rest text := parent || '_default';
      made integer := 0;
    begin
      case parent
        when 'samples' then step := 7; part_key := 'ts';
        when 'events' then step := 1; part_key := 'id';
        when 'event_keys' then step := 7; part_key := 'key';
        else
          raise exception 'no partitioned table: %', parent using errcode = 'invalid_parameter_value';
      end case;
      if step = 7 then
        day := date_trunc('week', from_day);
      end if;
      if to_day - from_day > 400 then
        raise exception 'too many partitions at once' using errcode = 'invalid_parameter_value';
      end if;

      while day <= to_day loop
        child := parent || '_' || to_char(day, 'YYYYMMDD');
        if to_regclass(child) is null then
          perform pg_advisory_xact_lock(hashtextextended('pulsewire.ensure_partitions', 0));
        end if;
        -- Not to_regclass: its cache does not notice what another session made while this one waited for the lock.
        if not exists (select from pg_class where relname = child and relnamespace = 'pulsewire'::regnamespace) then
          bounds := case parent
            when 'samples' then array[day::timestamptz::text, (day + step)::timestamptz::text]
            else array[uuidv7_at(day)::text, uuidv7_at(day + step)::text]
          end;
          execute format('create table %I (like %I including defaults including constraints)', child, parent);
          begin
            execute format('alter table %I attach partition %I for values from (%L) to (%L)',
              parent, child, bounds[1], bounds[2]);
          exception when check_violation then
            -- Rows of this range lie in the default partition: they move. Forced row security would hide them even
            -- from the owner, so it is lifted inside this transaction, under the lock that lifting it takes.
            execute format('alter table %I no force row level security', rest);
            execute format(
              'with moved as (delete from %I where %I >= %L and %I < %L returning *) insert into %I select * from moved',
              rest, part_key, bounds[1], part_key, bounds[2], child);
            execute format('alter table %I force row level security', rest);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)',
              parent, child, bounds[1], bounds[2]);
          end;
          execute format('alter table %I enable row level security', child);
          execute format('alter table %I force row level security', child);
          made := made + 1;
        end if;
        day := day + step;
      end loop;
      return made;
    end $$`.execute(db);
}

async function createSweep(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function drop_event_keys(before timestamptz) returns integer
    language plpgsql security definer
    set search_path = pulsewire, pg_temp
    set timezone = 'UTC'
    as $$
    declare
      cutoff uuid := uuidv7_at(before);
      week text;
      dropped integer := 0;
    begin
      -- The contract promises 32 days.
      if before > now() - interval '32 days' then
        raise exception 'event keys are kept for 32 days' using errcode = 'invalid_parameter_value';
      end if;
      perform set_config('pulsewire.sweeping', 'on', true);
      for week in
        select relname from pg_class join pg_inherits on inhrelid = oid
        where inhparent = 'event_keys'::regclass and relname ~ '^event_keys_[0-9]{8}$'
          and to_date(right(relname, 8), 'YYYYMMDD') + 7 <= before
        order by relname
      loop
        execute format('alter table %I no force row level security', week);
        execute format('alter table event_keys detach partition %I', week);
        -- Ids of that week that came later are still needed; without the partition they belong in the default one.
        execute format('insert into event_keys_default select * from %I where event_row >= %L', week, cutoff);
        execute format('drop table %I', week);
        dropped := dropped + 1;
      end loop;
      perform set_config('pulsewire.sweeping', '', true);
      return dropped;
    end $$;

    -- Removes old keys from a stretch of the partition's pages; returns the page to go on from, or null at the end. So no
    -- call takes long, and no index of its own is needed.
    create function sweep_event_keys(part text, before timestamptz, from_page bigint, pages bigint) returns bigint
    language plpgsql security definer
    set search_path = pulsewire, pg_temp
    as $$
    begin
      if part not in ('event_keys_hashed', 'event_keys_default') or before > now() - interval '32 days' then
        raise exception 'not to be swept' using errcode = 'invalid_parameter_value';
      end if;
      perform set_config('pulsewire.sweeping', 'on', true);
      execute format('delete from %I where ctid >= %L::tid and ctid < %L::tid and event_row < %L', part,
        format('(%s,0)', from_page), format('(%s,0)', from_page + pages), uuidv7_at(before));
      perform set_config('pulsewire.sweeping', '', true);
      if (from_page + pages) * current_setting('block_size')::bigint >= pg_relation_size(part) then
        return null;
      end if;
      return from_page + pages;
    end $$;
    revoke execute on function drop_event_keys, sweep_event_keys from public;
    grant execute on function drop_event_keys, sweep_event_keys to ${sql.raw(appRole)}`.execute(db);
}
