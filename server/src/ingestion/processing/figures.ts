/** How processing goes, for operators. */
import { type Kysely, sql } from "kysely";
import { Counter, Gauge, type Registry } from "prom-client";
import type { Database } from "../../db/schema.ts";
import { withWorker } from "../../db/tenant.ts";

interface Backlog {
  readonly events: number;
  readonly lagSeconds: number;
  readonly deadLetters: number;
}

/** Counts what waits in the whole installation. */
async function countBacklog(db: Kysely<Database>): Promise<Backlog> {
  const { rows } = await withWorker(db, (trx) =>
    sql<Backlog>`
      select coalesce(sum(events), 0)::float8 as events,
        greatest(coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0), 0)::float8 as "lagSeconds",
        (select count(*)::float8 from event_dead_letters where not queued) as "deadLetters"
      from event_batches where processed_at is null`.execute(trx),
  );
  return rows[0] ?? { events: 0, lagSeconds: 0, deadLetters: 0 };
}

/** Counts the events that this process has processed. */
export interface ProcessedCounter {
  inc(events: number): void;
}

/** Registers what waits, counted when it is asked for, and the counter of what was processed. */
export function registerProcessingMetrics(registry: Registry, db: Kysely<Database>): ProcessedCounter {
  const gauge = (name: string, help: string, of: (backlog: Backlog) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        this.set(of(await countBacklog(db)));
      },
    });
  gauge(
    "pulsewire_events_pending",
    "Events committed and not yet processed, of all tenants",
    ({ events }) => events,
  );
  gauge("pulsewire_events_lag_seconds", "Age of the oldest of them", ({ lagSeconds }) => lagSeconds);
  gauge(
    "pulsewire_events_dead_letters",
    "Events whose processing was given up",
    ({ deadLetters }) => deadLetters,
  );
  return new Counter({
    name: "pulsewire_events_processed_total",
    help: "Events that this process has processed",
    registers: [registry],
  });
}
