import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Database } from "../db/schema.ts";
import { deleteExpired } from "./store.ts";

/** How often expired rows are looked for, at most; more often where answers are kept for a short time. */
const maxIntervalMs = 60_000;
/** Rows of one statement. */
const batchRows = 1_000;

/** Deletes what has expired, in the background and in small statements. Returns the function that stops it. */
export function sweepExpired(db: Kysely<Database>, ttlMs: number, logger: Logger): () => Promise<void> {
  let stopped = false;
  let running: Promise<void> = Promise.resolve();

  async function sweep(): Promise<void> {
    while (!stopped && (await deleteExpired(db, batchRows)) === batchRows);
  }
  const timer = setInterval(
    () => {
      running = running.then(sweep).catch((err: unknown) => {
        logger.warn({ err }, "expired request ids could not be deleted; they are tried again");
      });
    },
    Math.min(maxIntervalMs, ttlMs),
  ).unref();
  return async () => {
    stopped = true;
    clearInterval(timer);
    await running;
  };
}
