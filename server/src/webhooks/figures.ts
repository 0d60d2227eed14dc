/** How much waits to be delivered, for operators. */
import { type Kysely, sql } from "kysely";
import { Counter, Gauge, type Registry } from "prom-client";
import type { DeliveryChannel, StoredDeliveryStatus } from "../db/schema/webhooks.ts";
import type { Database } from "../db/schema.ts";
import { withWorker } from "../db/tenant.ts";

/** What waits, by channel. */
export interface Waiting {
  readonly channel: DeliveryChannel;
  /** Of these, some have failed before. */
  readonly count: number;
  readonly retrying: number;
  /** Since when the one that is due the longest is due; null where none is. */
  readonly oldestDueAt: Date | null;
}

/** Counts what waits in the whole installation. */
export function countWaiting(db: Kysely<Database>, now: Date): Promise<Waiting[]> {
  return withWorker(db, async (trx) => {
    const { rows } = await sql<Waiting>`
      select channel, count(*)::int as count, (count(*) filter (where status = 'RETRYING'))::int as retrying,
        min(due_at) filter (where due_at <= ${now}) as "oldestDueAt"
      from deliveries where due_at is not null group by channel`.execute(trx);
    return rows;
  });
}

/** Counts attempts of this process by channel and what became of them. */
export interface AttemptCounter {
  count(channel: DeliveryChannel, status: StoredDeliveryStatus): void;
}

/** Registers what waits, counted when it is asked for, and the counter of attempts. */
export function registerDeliveryMetrics(registry: Registry, db: Kysely<Database>): AttemptCounter {
  new Gauge({
    name: "pulsewire_deliveries_waiting",
    help: "Deliveries that wait for an attempt; state is pending or retrying",
    labelNames: ["channel", "state"],
    registers: [registry],
    async collect() {
      const waiting = await countWaiting(db, new Date());
      this.reset();
      for (const { channel, count, retrying } of waiting) {
        this.set({ channel: channel.toLowerCase(), state: "pending" }, count - retrying);
        this.set({ channel: channel.toLowerCase(), state: "retrying" }, retrying);
      }
    },
  });
  const attempts = new Counter({
    name: "pulsewire_delivery_attempts_total",
    help: "Attempts to deliver by this process, by what became of the delivery",
    labelNames: ["channel", "result"],
    registers: [registry],
  });
  return {
    count: (channel, status) =>
      attempts.inc({ channel: channel.toLowerCase(), result: status.toLowerCase() }),
  };
}
