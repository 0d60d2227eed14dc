import { type Kysely, sql } from "kysely";

/** What the samples of a block come to by the hour, for queries over long ranges; null where that would save nothing. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table sample_blocks add column rollup bytea;
    alter table sample_blocks alter column rollup set storage external`.execute(db);
}
