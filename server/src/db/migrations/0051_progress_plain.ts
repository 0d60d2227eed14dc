import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // What most reports are: they only add to a file that is open and their own creator's. Everything between the lock of a
  // hot row and its commit happens here, in one round trip, so that the next flush need not wait for this server's turn.
  // Rights and row security are the caller's. Files that are not there, not open or another's are left out of the answer.
  await sql`
    create function add_to_progress(
      tenant uuid, keys uuid[], emails text[], api_keys uuid[], dones bigint[], warns bigint[], faileds bigint[],
      lines float8[], moment timestamptz
    ) returns table (
      key uuid, feed_sequence bigint, id uuid, email text, api_key_id uuid, done bigint, warn bigint, failed bigint,
      total bigint, version bigint, recent float8, error_count bigint, warning_count bigint, has_errors boolean,
      has_update_ids boolean, created_at timestamptz, updated_at timestamptz, completed_at timestamptz
    )
    language plpgsql security invoker set search_path = pulsewire, pg_temp as $$
    #variable_conflict use_column
    begin
      perform set_config('pulsewire.tenant_id', tenant::text, true);
      return query
      with change as (
        select * from unnest(keys, emails, api_keys, dones, warns, faileds, lines)
          as t (key, email, api_key_id, done, warn, failed, lines)
      ), file as materialized (
        select f.id, f.key from progress_files f
        where f.tenant_id = tenant and f.completed_at is null and f.key = any(keys)
          and exists (
            select from change c
            where c.key = f.key and c.email = f.email and c.api_key_id is not distinct from f.api_key_id
          )
        order by f.key for update
      ), numbered as materialized (
        select file.*, row_number() over (order by file.key) as place from file
      ), feed as materialized (
        insert into progress_feeds as f (tenant_id, sequence)
        select tenant, count(*) from numbered having count(*) > 0
        on conflict (tenant_id) do update set sequence = f.sequence + excluded.sequence
        returning f.sequence - (select count(*) from numbered) as base
      ), written as (
        update progress_files f set
          version = f.version + 1, done = f.done + c.done, warn = f.warn + c.warn, failed = f.failed + c.failed,
          recent = f.recent * exp(-greatest(0, extract(epoch from moment - f.updated_at)::float8) / 60) + c.lines,
          has_errors = f.has_errors or c.failed > 0,
          updated_at = greatest(moment, f.updated_at), sequence = feed.base + n.place
        from numbered n join change c on c.key = n.key, feed
        where f.tenant_id = tenant and f.id = n.id and c.email = f.email
          and c.api_key_id is not distinct from f.api_key_id
        returning f.*
      ), told as (
        insert into progress_deltas (tenant_id, sequence, file_id, client_krn, version, done, warn, failed, total, recent,
          error_count, warning_count, updated_at, completed_at)
        select tenant, w.sequence, w.id, w.client_krn, w.version, w.done, w.warn, w.failed, w.total, w.recent,
          w.error_count, w.warning_count, w.updated_at, w.completed_at
        from written w
      )
      select w.key, w.sequence, w.id, w.email, w.api_key_id, w.done, w.warn, w.failed, w.total, w.version, w.recent,
        w.error_count, w.warning_count, w.has_errors, w.has_update_ids, w.created_at, w.updated_at, w.completed_at
      from written w;
    end $$;
    revoke execute on function add_to_progress from public;
    grant execute on function add_to_progress to ${sql.raw(appRole)}`.execute(db);
}
