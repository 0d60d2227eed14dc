import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "../db/schema.ts";

/** One run of a call. */
export interface Attempt {
  readonly id: Buffer;
  readonly attempt: string;
}

/** What is known of a call that somebody else has begun. */
export interface Begun {
  readonly fingerprint: Buffer;
  readonly answer: Buffer | null;
  /** A transaction of it was committed. */
  readonly effective: boolean;
  /** It has run for longer than it may, or ended without an answer. */
  readonly lapsed: boolean;
}

/**
 * Takes a call on: true when nobody has it, when it has expired, or when who had it let the lease lapse without any
 * effect. From then on that other run cannot take effect any more; see `markEffect`.
 */
export async function reserve(
  db: Kysely<Database>,
  { id, attempt }: Attempt,
  fingerprint: Buffer,
  { ttlMs, leaseMs }: { ttlMs: number; leaseMs: number },
): Promise<boolean> {
  const { rows } = await sql`
    insert into idempotency_keys as k (id, fingerprint, attempt, lease_until, expires_at)
    values (${id}, ${fingerprint}, ${attempt}, now() + ${inMs(leaseMs)}, now() + ${inMs(ttlMs)})
    on conflict (id) do update set
      fingerprint = excluded.fingerprint, attempt = excluded.attempt, lease_until = excluded.lease_until,
      expires_at = excluded.expires_at, effect_at = null, answer = null
    where k.expires_at <= now()
      or (k.fingerprint = excluded.fingerprint and k.answer is null and k.effect_at is null and k.lease_until <= now())
    returning 1`.execute(db);
  return rows.length > 0;
}

export async function findBegun(db: Kysely<Database>, id: Buffer): Promise<Begun | undefined> {
  const { rows } = await sql<Begun>`
    select fingerprint, answer, effect_at is not null as effective, lease_until <= now() as lapsed
    from idempotency_keys where id = ${id}`.execute(db);
  return rows[0];
}

/**
 * Notes, in a transaction that has written something, that the call has taken effect. False: another run has taken
 * over, and this transaction must not be committed.
 */
export async function markEffect(trx: Transaction<Database>, { id, attempt }: Attempt): Promise<boolean> {
  const { rows } = await sql<{ wrote: boolean; marked: boolean }>`
    with state as materialized (select pg_current_xact_id_if_assigned() is not null as wrote),
    mark as (
      update idempotency_keys k set effect_at = coalesce(k.effect_at, clock_timestamp())
      from state where state.wrote and k.id = ${id} and k.attempt = ${attempt}
      returning 1
    )
    select wrote, exists (select from mark) as marked from state`.execute(trx);
  return rows[0]?.marked === true || rows[0]?.wrote === false;
}

/** Keeps the answer for those who call again. */
export async function keepAnswer(
  db: Kysely<Database>,
  { id, attempt }: Attempt,
  answer: Buffer,
): Promise<void> {
  await sql`
    update idempotency_keys set answer = ${answer} where id = ${id} and attempt = ${attempt}`.execute(db);
}

/**
 * Gives up a call that failed: a repetition runs anew. Where it had taken effect and how it ended is not certain, the
 * row stays, so that no repetition takes effect again.
 */
export async function giveUp(
  db: Kysely<Database>,
  { id, attempt }: Attempt,
  certain: boolean,
): Promise<void> {
  const { numAffectedRows } = await sql`
    delete from idempotency_keys
    where id = ${id} and attempt = ${attempt} and (${certain}::boolean or effect_at is null)`.execute(db);
  if (numAffectedRows) return;
  await sql`
    update idempotency_keys set lease_until = now() where id = ${id} and attempt = ${attempt}`.execute(db);
}

/** Deletes up to `limit` expired rows; returns how many. Several servers may do so side by side. */
export async function deleteExpired(db: Kysely<Database>, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from idempotency_keys where id in (
      select id from idempotency_keys where expires_at <= now() order by expires_at limit ${limit}
      for update skip locked
    )`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

function inMs(milliseconds: number) {
  return sql`make_interval(secs => ${milliseconds / 1_000})`;
}
