import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import type { SigningKeysTable } from "../../db/schema/auth.ts";
import type { Database } from "../../db/schema.ts";

export type SigningKeyRow = Selectable<SigningKeysTable>;

/** All keys, in the order in which they sign. */
export function listSigningKeys(db: Kysely<Database>): Promise<SigningKeyRow[]> {
  return db.selectFrom("signing_keys").selectAll().orderBy("signs_from").orderBy("kid").execute();
}

/** Runs `fn` while no other server changes the keys; it gets the keys and the database's time. */
export function withSigningKeys<T>(
  db: Kysely<Database>,
  fn: (trx: Transaction<Database>, keys: SigningKeyRow[], now: Date) => Promise<T>,
): Promise<T> {
  return db.transaction().execute(async (trx) => {
    await sql`select pg_advisory_xact_lock(hashtextextended('pulsewire.signing_keys', 0))`.execute(trx);
    const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(trx);
    return fn(trx, await listSigningKeys(trx), rows[0]?.now ?? new Date());
  });
}
