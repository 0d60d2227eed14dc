import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";

/**
 * Partitions are made by the service as time goes on, but only the owner may make tables: a function of the owner's
 * makes those of `samples` and `events` and nothing else.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // A row that no other partition takes is kept here, never refused. Row security without a policy and without grants:
  // a partition is reached through its parent only.
  for (const table of ["samples", "events"]) {
    const rest = sql.table(`${table}_default`);
    await sql`
      create table ${rest} partition of ${sql.table(table)} default;
      alter table ${rest} enable row level security;
      alter table ${rest} force row level security`.execute(db);
  }

  await sql`
    create function uuidv7_at(moment timestamptz) returns uuid
    language sql immutable strict parallel safe set search_path = pg_catalog
    return rpad(lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid`.execute(
    db,
  );

  await sql`
    create function ensure_partitions(parent text, from_day date, to_day date) returns integer
    language plpgsql security definer
    set search_path = pulsewire, pg_temp
    set timezone = 'UTC'
    as $$
    declare
      -- Weeks for samples, days for events.
      step integer;
      day date := from_day;
      bounds text[];
      child text;
      rest text := parent || '_default';
      made integer := 0;
    begin
      if parent = 'samples' then
        step := 7;
        day := date_trunc('week', from_day);
      elsif parent = 'events' then
        step := 1;
      else
        raise exception 'no partitioned table: %', parent using errcode = 'invalid_parameter_value';
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
              rest, case parent when 'samples' then 'ts' else 'id' end, bounds[1],
              case parent when 'samples' then 'ts' else 'id' end, bounds[2], child);
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
    end $$;
    revoke execute on function ensure_partitions, uuidv7_at from public;
    grant execute on function ensure_partitions, uuidv7_at to ${sql.raw(appRole)}`.execute(db);
}
