import { setTimeout as sleep } from "node:timers/promises";
import { type IsolationLevel, type Kysely, sql, type Transaction } from "kysely";
import { beforeCommit } from "./commit-guard.ts";
import type { Database } from "./schema.ts";
import { classifyDatabaseError } from "./sqlstate.ts";
import { uuidForm } from "./uuid.ts";

declare const tenantMark: unique symbol;
declare const lookupMark: unique symbol;
declare const platformMark: unique symbol;
declare const workerMark: unique symbol;

/** A transaction in which one tenant's rows, and no others, can be read and written. Store functions take this. */
export type TenantTransaction = Transaction<Database> & { readonly [tenantMark]: true };

/** A transaction in which nothing can be read but what matches the secret, the slug or the address. */
export type LookupTransaction = Transaction<Database> & { readonly [lookupMark]: true };

/** A transaction in which the rows of `tenants`, of all tenants, can be read and nothing else. */
export type PlatformTransaction = Transaction<Database> & { readonly [platformMark]: true };

/** A transaction in which the rows of queue tables, of all tenants, can be read, changed and deleted, and nothing else. */
export type WorkerTransaction = Transaction<Database> & { readonly [workerMark]: true };

/** How often a transaction is run in all, when it is rolled back for the sake of another. */
export const transactionAttempts = 3;
const retryDelayMs = 20;

export interface TransactionOptions {
  /** PostgreSQL's default is read committed. */
  readonly isolationLevel?: IsolationLevel;
}

/**
 * Runs `fn` in a transaction that sees the rows of one tenant: the only way to them. The setting ends with the
 * transaction, so the next user of the connection sees nothing.
 *
 * `fn` may run up to `transactionAttempts` times, as a deadlock or serialization failure rolls it back: it must have
 * no effect outside the transaction. Any other error is thrown after the rollback. Throws a TypeError for an id that
 * is no UUID.
 */
export function withTenant<T>(
  db: Kysely<Database>,
  tenantId: string,
  fn: (trx: TenantTransaction) => Promise<T>,
  options?: TransactionOptions,
): Promise<T> {
  assertUuid(tenantId);
  return transact(db, options, async (trx) => fn(await enterTenant(trx, tenantId)));
}

/**
 * Runs `fn` in one transaction for several tenants, for a flush that commits once. `enter(tenantId)` switches to a
 * tenant and returns the transaction as that tenant's.
 *
 * Danger: the tenant belongs to the transaction, not to the returned value. Whatever runs after `enter` runs as that
 * tenant, so await each tenant's statements before entering the next, and never run them side by side.
 * Runs and fails as `withTenant` does.
 */
export function withTenants<T>(
  db: Kysely<Database>,
  fn: (enter: (tenantId: string) => Promise<TenantTransaction>) => Promise<T>,
  options?: TransactionOptions,
): Promise<T> {
  return transact(db, options, (trx) => fn((tenantId) => enterTenant(trx, tenantId)));
}

/** What may be looked up before the tenant is known. */
export type Lookup =
  | { readonly apiKeyHash: Uint8Array }
  | { readonly tenantSlug: string }
  | { readonly email: string };

/**
 * Runs `fn` in a transaction that sees, read-only, the one row of `api_keys` with this hash, the one row of `tenants`
 * with this slug, or the rows of `users` with this address in lower case, one for each tenant. With what it finds, go
 * on through `withTenant`.
 */
export function withLookup<T>(
  db: Kysely<Database>,
  lookup: Lookup,
  fn: (trx: LookupTransaction) => Promise<T>,
): Promise<T> {
  const [setting, value] = lookupSetting(lookup);
  return transact(db, undefined, async (trx) => {
    await sql`select set_config(${setting}, ${value}, true)`.execute(trx);
    return fn(trx as LookupTransaction);
  });
}

/**
 * Runs `fn` in a transaction that sees, read-only, the rows of `tenants` of the whole installation, and no other table:
 * for a caller that holds PLATFORM_ADMIN, which is for the handler to make sure. Whatever a platform admin does to one
 * tenant, and all that lies in it, goes through `withTenant`.
 */
export function withPlatform<T>(
  db: Kysely<Database>,
  fn: (trx: PlatformTransaction) => Promise<T>,
): Promise<T> {
  return transact(db, undefined, async (trx) => {
    await sql`select set_config('pulsewire.platform_admin', 'on', true)`.execute(trx);
    return fn(trx as PlatformTransaction);
  });
}

/**
 * Runs `fn` in a transaction of a worker: it sees the rows of queue tables (see `protectQueueTable`) of all tenants, to
 * claim what is due. What it does to a tenant's own rows it does after `enter(tenantId)`, in the same transaction, with
 * the danger that `withTenants` names. Runs and fails as `withTenant` does.
 */
export function withWorker<T>(
  db: Kysely<Database>,
  fn: (trx: WorkerTransaction, enter: (tenantId: string) => Promise<TenantTransaction>) => Promise<T>,
): Promise<T> {
  return transact(db, undefined, async (trx) => {
    await sql`select set_config('pulsewire.worker', 'on', true)`.execute(trx);
    return fn(trx as WorkerTransaction, (tenantId) => enterTenant(trx, tenantId));
  });
}

function lookupSetting(lookup: Lookup): [setting: string, value: string] {
  if ("apiKeyHash" in lookup) {
    return ["pulsewire.lookup_key_hash", Buffer.from(lookup.apiKeyHash).toString("hex")];
  }
  if ("tenantSlug" in lookup) return ["pulsewire.lookup_slug", lookup.tenantSlug];
  return ["pulsewire.lookup_email", lookup.email];
}

async function enterTenant(trx: Transaction<Database>, tenantId: string): Promise<TenantTransaction> {
  assertUuid(tenantId);
  await sql`select set_config('pulsewire.tenant_id', ${tenantId}, true)`.execute(trx);
  return trx as TenantTransaction;
}

async function transact<T>(
  db: Kysely<Database>,
  options: TransactionOptions | undefined,
  fn: (trx: Transaction<Database>) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      const builder = db.transaction();
      return await (options?.isolationLevel
        ? builder.setIsolationLevel(options.isolationLevel)
        : builder
      ).execute(async (trx) => {
        const result = await fn(trx);
        await beforeCommit(trx);
        return result;
      });
    } catch (error) {
      if (attempt >= transactionAttempts || classifyDatabaseError(error)?.kind !== "retry") throw error;
      await retryPause(attempt);
    }
  }
}

/** Lets the others finish before a transaction is tried again. */
export async function retryPause(attempt: number): Promise<void> {
  await sleep(Math.random() * retryDelayMs * attempt);
}

/** Throws a TypeError for a tenant id that is no UUID. */
export function assertUuid(tenantId: string): void {
  if (!uuidForm.test(tenantId.toLowerCase())) throw new TypeError("tenant id is no UUID");
}
