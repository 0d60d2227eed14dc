import { type Kysely, sql } from "kysely";
import { appRole, schemaName } from "../roles.ts";

/**
 * The service's role. It belongs to the whole cluster, where another database may be making it at this moment, and
 * an advisory lock reaches no further than its own database.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    do $$
    begin
      if not exists (select from pg_roles where rolname = '${sql.raw(appRole)}') then
        create role ${sql.raw(appRole)} nologin;
      end if;
    exception when duplicate_object or unique_violation then
      null;
    end $$;
    grant usage on schema ${sql.raw(schemaName)} to ${sql.raw(appRole)};
  `.execute(db);
}
