import { AsyncLocalStorage } from "node:async_hooks";
import type { Transaction } from "kysely";
import type { Database } from "./schema.ts";

/** Has the last word in every transaction of one call. */
export type CommitGuard = (trx: Transaction<Database>) => Promise<void>;

const guards = new AsyncLocalStorage<{ guard: CommitGuard | undefined }>();

/**
 * Runs `fn` so that `guard` is the last statement of every transaction in it; when it throws, the transaction is
 * rolled back. What `fn` leaves behind, such as a timer, is not guarded once `fn` has ended.
 */
export async function withCommitGuard<T>(guard: CommitGuard, fn: () => Promise<T>): Promise<T> {
  const held: { guard: CommitGuard | undefined } = { guard };
  try {
    return await guards.run(held, fn);
  } finally {
    held.guard = undefined;
  }
}

/** To be called at the end of a transaction. */
export async function beforeCommit(trx: Transaction<Database>): Promise<void> {
  await guards.getStore()?.guard?.(trx);
}

/** Whether a guard watches over the call that runs: its transactions must be its own. */
export function isGuarded(): boolean {
  return guards.getStore()?.guard !== undefined;
}
