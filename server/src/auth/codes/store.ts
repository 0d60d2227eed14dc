import { type Kysely, sql } from "kysely";
import type { CodePurpose } from "../../db/schema/auth.ts";
import type { Database } from "../../db/schema.ts";
import type { LookupTransaction, TenantTransaction } from "../../db/tenant.ts";
import type { UserRow } from "../users/store.ts";

/** A code and whose it is, as they are stored: keyed hashes. */
export interface StoredCode {
  readonly address: Buffer;
  readonly purpose: CodePurpose;
  readonly codeHash: Buffer;
}

/** When a code may be asked for: once in `resendMs`, `perHour` times an hour. */
export interface RequestPace {
  readonly resendMs: number;
  readonly perHour: number;
}

const hourMs = 3_600_000;

/** Notes a request for a code. Returns 0, or after how many milliseconds it may be made, and then notes nothing. */
export async function noteRequest(
  db: Kysely<Database>,
  address: Buffer,
  { resendMs, perHour }: RequestPace,
): Promise<number> {
  const recent = sql`array(select t from unnest(r.requested_at) t where t > now() - interval '1 hour' order by t)`;
  const resend = sql`${resendMs}::float8 * interval '1 ms'`;
  const { rows } = await sql`
    insert into email_code_requests as r values (${address}, array[now()], now() + interval '1 hour')
    on conflict (address) do update
      set requested_at = ${recent} || now(), forget_at = now() + interval '1 hour'
      where cardinality(${recent}) < ${perHour} and not (now() - ${resend} < any (r.requested_at))
    returning address`.execute(db);
  if (rows.length > 0) return 0;
  const { rows: noted } = await sql<{ ages: number[] }>`
    select array(select (extract(epoch from now() - t) * 1000)::float8 from unnest(requested_at) t order by 1) as ages
    from email_code_requests where address = ${address}`.execute(db);
  const ages = noted[0]?.ages ?? [];
  const [latest = resendMs] = ages;
  const full = ages[perHour - 1];
  return Math.max(resendMs - latest, full === undefined ? 0 : hourMs - full, 1);
}

/** Puts a code in place of the one before. */
export async function putCode(db: Kysely<Database>, code: StoredCode, ttlMs: number): Promise<Date> {
  const expires_at = sql<Date>`now() + ${ttlMs}::float8 * interval '1 ms'`;
  const { address, purpose, codeHash: code_hash } = code;
  const row = await db
    .insertInto("email_codes")
    .values({ address, purpose, code_hash, expires_at })
    .onConflict((conflict) =>
      conflict.columns(["address", "purpose"]).doUpdateSet({ code_hash, expires_at, attempts: 0 }),
    )
    .returning("expires_at")
    .executeTakeFirstOrThrow();
  return row.expires_at;
}

/**
 * Takes one of the attempts that a code has and returns its hash; undefined when there is no live code or none are
 * left. The attempt is counted before anybody knows whether it is right, so that guesses side by side share none.
 */
export async function takeAttempt(
  db: Kysely<Database>,
  { address, purpose }: Pick<StoredCode, "address" | "purpose">,
  maxAttempts: number,
): Promise<Buffer | undefined> {
  const row = await db
    .updateTable("email_codes")
    .set(({ eb }) => ({ attempts: eb("attempts", "+", 1) }))
    .where("address", "=", address)
    .where("purpose", "=", purpose)
    .where("attempts", "<", maxAttempts)
    .where("expires_at", ">", sql<Date>`now()`)
    .returning("code_hash")
    .executeTakeFirst();
  return row?.code_hash;
}

/** Uses a code up, in the transaction of what it is good for; false when another call was faster. */
export async function useCode(
  trx: TenantTransaction,
  { address, purpose, codeHash }: StoredCode,
): Promise<boolean> {
  const { numDeletedRows } = await trx
    .deleteFrom("email_codes")
    .where("address", "=", address)
    .where("purpose", "=", purpose)
    .where("code_hash", "=", codeHash)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}

/** The memberships of an address in all tenants, the one used last first, then the oldest. */
export async function findMemberships(trx: LookupTransaction, email: string): Promise<UserRow[]> {
  return await trx
    .selectFrom("users")
    .selectAll()
    .where("email", "=", email)
    .orderBy("last_login_at", (order) => order.desc().nullsLast())
    .orderBy("created_at")
    .execute();
}
