import { type Kysely, sql } from "kysely";
import type { Logger } from "pino";
import type { Database } from "../db/schema.ts";

const intervalMs = 10 * 60_000;
const batchSize = 1_000;

/** Deletes, every ten minutes, the wrong passwords, codes and requests for codes that count no more. Returns its end. */
export function sweepSecrets(db: Kysely<Database>, logger: Logger): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let ended = false;
  const sweep = async () => {
    for (const [table, key, expiry] of [
      ["login_failures", "account", "forget_at"],
      ["email_code_requests", "address", "forget_at"],
      ["email_codes", "address", "expires_at"],
    ] as const) {
      while (!ended && (await deleteBatch(db, table, key, expiry)) === batchSize);
    }
  };
  const timer = setInterval(() => {
    running = running
      .then(sweep)
      .catch((err: unknown) => logger.error({ err }, "what has expired could not be deleted"));
  }, intervalMs);
  return async () => {
    ended = true;
    clearInterval(timer);
    await running;
  };
}

/** By small batches, so that no lock is held for long; rows that are in use are left to the next time. */
async function deleteBatch(
  db: Kysely<Database>,
  table: string,
  key: string,
  expiry: string,
): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from ${sql.table(table)} where ctid = any (array(
      select ctid from ${sql.table(table)} where ${sql.ref(expiry)} <= now()
      order by ${sql.ref(key)} limit ${batchSize} for update skip locked
    ))`.execute(db);
  return Number(numAffectedRows ?? 0n);
}
