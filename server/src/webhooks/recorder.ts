/** Gathers results while a transaction records others, so that one commit serves many. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { WebhooksConfig } from "../config/webhooks.ts";
import type { Database } from "../db/schema.ts";
import { type Result, recordResults } from "./record.ts";

export interface Recorder {
  /** Resolves once the result is recorded, or given up because its claim has lapsed. Never rejects. */
  record(result: Result): Promise<void>;
}

export interface RecorderOptions {
  readonly db: Kysely<Database>;
  readonly logger: Logger;
  readonly settings: WebhooksConfig;
  /** After so long a claim has lapsed, and its delivery is tried again. */
  readonly leaseMs: number;
  /** Aborted: what cannot be recorded at once is given up. */
  readonly signal: AbortSignal;
}

/** Results that one transaction records. */
const recordedAtOnce = 500;
const retryMs = 200;

export function createRecorder({ db, logger, settings, leaseMs, signal }: RecorderOptions): Recorder {
  let queue: { result: Result; done: () => void }[] = [];
  let isRunning = false;

  const write = async (results: readonly Result[]) => {
    const giveUpMs = performance.now() + leaseMs;
    for (;;) {
      try {
        for (const { tenantId, id, reason } of await recordResults(db, results, settings))
          logger.warn({ tenantId, webhookId: id, reason }, "a webhook was disabled");
        return;
      } catch (err) {
        logger.error({ err, results: results.length }, "results of deliveries could not be recorded");
        if (performance.now() > giveUpMs || signal.aborted) return;
        await sleep(retryMs);
      }
    }
  };

  const run = async () => {
    isRunning = true;
    while (queue.length > 0) {
      const batch = queue.slice(0, recordedAtOnce);
      queue = queue.slice(recordedAtOnce);
      await write(batch.map(({ result }) => result));
      for (const { done } of batch) done();
    }
    isRunning = false;
  };

  return {
    record: (result) =>
      new Promise((done) => {
        queue.push({ result, done });
        if (!isRunning) void run();
      }),
  };
}
