/** The time for which this process alone drives the runtime. */
import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";
import { type TenantTransaction, type WorkerTransaction, withWorker } from "../../db/tenant.ts";
import { confirmLease, type Lease } from "../../jobs/lease.ts";

/** Another process has taken over: nothing more may be written. */
export class LeaseLost extends Error {
  override name = "LeaseLost";
}

export interface Tenure {
  /** Aborted at its end. */
  readonly signal: AbortSignal;
  /** A transaction that commits only as long as this process is the one. */
  write<T>(
    fn: (trx: WorkerTransaction, enter: (tenantId: string) => Promise<TenantTransaction>) => Promise<T>,
  ): Promise<T>;
  /** The same in one tenant. */
  writeIn<T>(tenantId: string, fn: (trx: TenantTransaction) => Promise<T>): Promise<T>;
}

/** `end` is called when a transaction finds that the lease is another's. */
export function createTenure(
  db: Kysely<Database>,
  lease: Lease,
  signal: AbortSignal,
  end: () => void,
): Tenure {
  const write: Tenure["write"] = (fn) =>
    withWorker(db, async (trx, enter) => {
      signal.throwIfAborted();
      if (!(await confirmLease(trx, lease))) {
        end();
        throw new LeaseLost("another process drives the functions now");
      }
      return fn(trx, enter);
    });
  return {
    signal,
    write,
    writeIn: (tenantId, fn) => write(async (_trx, enter) => fn(await enter(tenantId))),
  };
}
