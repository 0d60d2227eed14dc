/** A database with a week of events for the bench of analytics: written by SQL as batches, folded by the server's own worker. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client as Connection } from "pg";
import { connectToDatabase } from "../faults/database.ts";
import { startServerProcess } from "../helpers/server-process.ts";

const minute = 60_000;
export const week = 7 * 1_440 * minute;
/** More than a week, so that there are events before questions that end earlier. */
const spanMs = week + 180 * minute;
const batchRows = 2_000;
const chunkRows = 200_000;

/** Makes the database unless it is there already, with no worker, so that folding can be measured alone. */
export async function makeData(dataDir: string, events: number, users: number): Promise<void> {
  if (existsSync(path.join(dataDir, "demo.json"))) return;
  await mkdir(dataDir, { recursive: true });
  await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir, PULSEWIRE_ROLE: "api" });
  {
    await using database = await connectToDatabase(dataDir);
    await write(database, events, users, Math.floor(Date.now() / minute) * minute);
  }
  await server.stop();
}

/** Has all events folded anew by the next worker. */
export async function forgetRollups(database: Connection): Promise<void> {
  await database.query(
    `truncate event_rollups, event_rollup_builds, event_names, event_rollup_state;
     update event_batches set processed_at = null, attempts = 0`,
  );
}

/** A minute after the last event. */
export async function endOfEvents(database: Connection): Promise<number> {
  const { rows } = await database.query<{ last: Date }>("select max(occurred_at) as last from events");
  return Math.floor((rows[0]?.last.getTime() ?? 0) / minute + 1) * minute;
}

/** A bit more than 7 days of events in the order of time, as flushes would have written them. */
async function write(database: Connection, events: number, users: number, endMs: number): Promise<void> {
  const { rows } = await database.query<{ id: string }>("select id from tenants where slug = 'demo'");
  const tenantId = rows[0]?.id;
  const fromMs = endMs - spanMs;
  for (let done = 0; done < events; done += chunkRows) {
    const rowsNow = Math.min(chunkRows, events - done);
    await database.query("begin");
    await database.query(
      `insert into events (tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, encoded, metrics)
       select $1, (substr(at, 1, 8) || '-' || substr(at, 9, 4) || '-7' || lpad(to_hex((n / 16) % 4096), 3, '0') || '-8'
           || lpad(to_hex(n % 4096), 3, '0') || '-' || lpad(to_hex(n), 12, '0'))::uuid,
         'e' || n, (array['page_view', 'click', 'purchase', 'search', 'log_in'])[1 + floor(random() * 5)::int],
         'user-' || who, 'session-' || who || '-' || floor(ms / 21600000), 2, 1, to_timestamp(ms / 1000.0), '',
         '{"duration_ms":12.5}'
       from (
         select n, ms, who, lpad(to_hex(ms), 12, '0') as at
         from (
           select n, $2::bigint + (n * $3::float8)::bigint as ms, floor(random() * $6)::int as who
           from generate_series($4::bigint, $5::bigint - 1) as n
         ) as drawn
       ) as timed`,
      [tenantId, fromMs, (endMs - fromMs) / events, done, done + rowsNow, users],
    );
    // Many batches of one transaction: told apart by their ids, as those of the migration are.
    await database.query(
      `insert into event_batches (tenant_id, first_id, last_id, events)
       select $1, (array_agg(id order by id))[1], (array_agg(id order by id desc))[1], count(*)
       from (select id, (row_number() over (order by id) - 1) / ${batchRows} as part
             from events where tenant_id = $1 and batch = pg_current_xact_id()) as numbered
       group by part`,
      [tenantId],
    );
    await database.query("commit");
  }
  await database.query("analyze events");
  await database.query("checkpoint");
}

/** Lets the server make all periods that are over now, and waits for them. */
export async function buildLongerPeriods(database: Connection): Promise<void> {
  await database.query(
    `update event_rollup_builds set due_at = now()
     where bucket + (array['1m', '15m', '1h', '4h', '1d']::interval[])[level + 1] <= now()`,
  );
  await until(async () => {
    const { rows } = await database.query<{ due: number }>(
      "select count(*)::int as due from event_rollup_builds where due_at <= now()",
    );
    return rows[0]?.due === 0;
  });
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(100);
}
