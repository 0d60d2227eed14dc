import { type Kysely, sql } from "kysely";

/** The list of tenants for platform admins: this one table, read-only, while the transaction says so. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create policy platform on tenants for select
      using (current_setting('pulsewire.platform_admin', true) = 'on')`.execute(db);
}
