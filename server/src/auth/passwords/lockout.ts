import { type Kysely, sql } from "kysely";
import type { AuthConfig } from "../../config/auth.ts";
import type { Database } from "../../db/schema.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import type { Mac } from "../mac.ts";

/** What people sign in to, whether or not it exists. */
export interface Account {
  readonly tenantSlug: string;
  readonly email: string;
}

/** Holds back those who guess passwords, by account, in the database and so across processes and restarts. */
export interface Lockout {
  /**
   * Runs `check`, which says whether the password is right, and counts when it is not. The count goes up before the
   * check, so that guesses made side by side do not share one. Throws RATE_LIMITED without a check while the account
   * is locked, known or not.
   */
  guard<T>(account: Account, check: () => Promise<T | undefined>): Promise<T | undefined>;
  /** Lifts the lock. */
  lift(account: Account): Promise<void>;
  /** Until when each of the addresses of one tenant is locked; those that are not are left out. */
  lockedUntil(tenantSlug: string, emails: readonly string[]): Promise<Map<string, Date>>;
}

export type LockoutLimits = Pick<
  AuthConfig,
  "loginFreeFailures" | "loginLockMs" | "loginLockMaxMs" | "loginFailureMemoryMs" | "loginQueue"
>;

export function createLockout(db: Kysely<Database>, mac: Mac, limits: LockoutLimits): Lockout {
  const hashOf = ({ tenantSlug, email }: Account) => mac("login", tenantSlug, email.toLowerCase());
  const queue = createQueue(limits.loginQueue);

  return {
    guard(account, check) {
      const hash = hashOf(account);
      // One after the other, so that the right password sent many times at once does not lock itself out.
      return queue(hash.toString("base64"), async () => {
        if (!(await countFailure(db, hash, limits))) throw await locked(db, hash);
        const result = await check();
        if (result !== undefined) await forget(db, hash);
        return result;
      });
    },
    lift: (account) => forget(db, hashOf(account)),
    async lockedUntil(tenantSlug, emails) {
      const byHash = new Map(emails.map((email) => [hashOf({ tenantSlug, email }).toString("hex"), email]));
      const rows = await db
        .selectFrom("login_failures")
        .select(["account", "locked_until"])
        .where(
          "account",
          "in",
          [...byHash.keys()].map((hex) => Buffer.from(hex, "hex")),
        )
        .where("locked_until", ">", sql<Date>`now()`)
        .execute();
      return new Map(
        rows.flatMap(({ account, locked_until }) => {
          const email = byHash.get(account.toString("hex"));
          return email && locked_until ? [[email, locked_until]] : [];
        }),
      );
    },
  };
}

/** Counts an attempt as failed; false, and nothing counted, while the account is locked. */
async function countFailure(db: Kysely<Database>, account: Buffer, limits: LockoutLimits): Promise<boolean> {
  const failures = sql<number>`case when f.forget_at <= now() then 1 else f.failures + 1 end`;
  const beyond = sql<number>`least(${failures} - ${limits.loginFreeFailures + 1}::int, 30)`;
  const delayMs = sql<number>`least(${limits.loginLockMs}::float8 * 2 ^ ${beyond}, ${limits.loginLockMaxMs}::float8)`;
  const memory = sql`now() + ${limits.loginFailureMemoryMs}::float8 * interval '1 ms'`;
  const { rows } = await sql`
    insert into login_failures as f (account, failures, forget_at) values (${account}, 1, ${memory})
    on conflict (account) do update set
      failures = ${failures},
      locked_until = case when ${beyond} >= 0 then now() + ${delayMs} * interval '1 ms' end,
      forget_at = excluded.forget_at
    where f.locked_until is null or f.locked_until <= now()
    returning failures`.execute(db);
  return rows.length > 0;
}

async function forget(db: Kysely<Database>, account: Buffer): Promise<void> {
  await db.deleteFrom("login_failures").where("account", "=", account).execute();
}

async function locked(db: Kysely<Database>, account: Buffer) {
  const row = await db
    .selectFrom("login_failures")
    .select(sql<number>`(extract(epoch from locked_until - now()) * 1000)::float8`.as("ms"))
    .where("account", "=", account)
    .executeTakeFirst();
  return tooManyLogins(Math.max(row?.ms ?? 0, 1));
}

function tooManyLogins(retryAfterMs: number) {
  return failure(
    ErrorReason.RATE_LIMITED,
    "too many wrong passwords for this account; wait, or set a new one with AuthService.RecoverPassword",
    { metadata: { limit: "login_failures" }, retryAfterMs },
  );
}

const queueFullRetryMs = 1_000;

/** Runs the tasks of one key one after the other; refuses what is more than `max`. */
function createQueue(max: number) {
  const tails = new Map<string, { tail: Promise<unknown>; length: number }>();
  return async <T>(key: string, task: () => Promise<T>): Promise<T> => {
    const line = tails.get(key) ?? { tail: Promise.resolve(), length: 0 };
    if (line.length >= max) throw tooManyLogins(queueFullRetryMs);
    tails.set(key, line);
    line.length++;
    const turn = line.tail.then(task);
    line.tail = turn.catch(() => {});
    try {
      return await turn;
    } finally {
      if (--line.length === 0) tails.delete(key);
    }
  };
}
