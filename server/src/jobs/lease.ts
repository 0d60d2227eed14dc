/**
 * Named leases: at most one process holds a name at a time, and whoever takes it over has a higher fencing token, so that what a
 * former holder still writes can be told apart and refused.
 */
import { type Kysely, sql } from "kysely";
import type { Database } from "../db/schema.ts";

export interface Lease {
  readonly name: string;
  /** Grows with every change of the holder. */
  readonly fence: bigint;
}

/**
 * Takes or renews a lease for `ttlMs`, by the database's clock. Undefined while somebody else holds it. `holder` names this
 * process or worker, uniquely.
 */
export async function takeLease(
  db: Kysely<Database>,
  name: string,
  holder: string,
  ttlMs: number,
): Promise<Lease | undefined> {
  const { rows } = await sql<{ fence: string }>`
    insert into leases as held (name, holder, fence, expires_at)
    values (${name}, ${holder}, 1, now() + ${ttlMs} * interval '1 millisecond')
    on conflict (name) do update set
      holder = excluded.holder,
      expires_at = excluded.expires_at,
      fence = held.fence + (held.holder <> excluded.holder)::int
    where held.holder = excluded.holder or held.expires_at <= now()
    returning fence::text`.execute(db);
  const [row] = rows;
  return row && { name, fence: BigInt(row.fence) };
}

/** Gives a lease up, so that the next holder need not wait for its end. The fence goes on growing. */
export async function dropLease(db: Kysely<Database>, name: string, holder: string): Promise<void> {
  await sql`update leases set expires_at = now(), holder = '' where name = ${name} and holder = ${holder}`.execute(
    db,
  );
}

/**
 * For the beginning of a transaction: holds the lease in place until the commit, and tells whether it is still ours. False
 * means that another process has taken over, and nothing may be written.
 */
export async function confirmLease(trx: Kysely<Database>, { name, fence }: Lease): Promise<boolean> {
  const { rows } = await sql`select from leases where name = ${name} and fence = ${fence} for share`.execute(
    trx,
  );
  return rows.length === 1;
}
