import { type Kysely, sql } from "kysely";

/** Since when a store is heard from without a longer gap than its interval allows. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table store_activity add column heard_since timestamptz not null default now()`.execute(db);
}
