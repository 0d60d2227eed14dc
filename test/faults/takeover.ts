/**
 * How soon another worker does what one had claimed that is killed, or that stands still: node test/faults/takeover.ts [--rounds 10]
 *
 * One API under load and two workers. Each round kills or stops one of them at a random moment, and takes the time until every
 * event that was committed before is processed, and at last compares the rollups with a recount.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Client } from "pg";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { ingestionClient, runLoad } from "./callers.ts";
import { connectToDatabase } from "./database.ts";
import { conclude, Ledger } from "./ledger.ts";
import { startParts } from "./parts.ts";
import { sendUnknownAgain, verifyAcknowledged, verifyRollups, verifyTotals } from "./verify.ts";

/** Longer than this no takeover may last. */
const maxSeconds = 15;

const { values } = parseArgs({ options: { rounds: { type: "string", default: "10" } } });
const rounds = Number(values.rounds);
const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-takeover-"));
const ledger = new Ledger("fault.takeover");
const taken: Record<string, number[]> = { killed: [], "standing still": [] };
try {
  await (await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir })).stop();
  await using parts = await startParts(dataDir);
  await using database = await connectToDatabase(dataDir);
  using client = ingestionClient(parts.apiUrl(), readDemoKey(dataDir));
  const over = new AbortController();
  const load = runLoad({
    ingestion: client.ingestion,
    ledger,
    until: over.signal,
    onFailure(error) {
      ledger.violations.push(`a call failed though the API lives: ${error.message}`);
    },
  });
  for (let round = 1; round <= rounds; round++) {
    const title = round % 2 === 0 ? "standing still" : "killed";
    await using doomed = await startServerProcess(parts.settingsOf("worker"));
    await sleep(300 + Math.random() * 500);
    if (title === "killed") await doomed.kill();
    else await stopInTransaction(doomed.pid, database);
    const seconds = await untilTaken(database);
    taken[title]?.push(seconds);
    ledger.expect(seconds < maxSeconds, `events waited ${seconds} s for the worker that was ${title}`);
    console.log(`round ${String(round).padStart(3)}  ${title.padEnd(14)}  ${seconds.toFixed(2)} s`);
  }
  over.abort();
  await load;
  await verifyAcknowledged(ledger, database, client.ingestion);
  await sendUnknownAgain(ledger, client.ingestion);
  await verifyTotals([ledger], ledger, database);
  await verifyRollups([ledger], ledger, database, client.ingestion);
} finally {
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}
for (const [title, all] of Object.entries(taken))
  console.log(`${title}: at most ${Math.max(...all).toFixed(2)} s`);
conclude(`takeover: ${rounds} rounds`, [ledger]);

/** Stops a process when it has a transaction open, which others then wait for. */
async function stopInTransaction(pid: number, database: Client): Promise<void> {
  for (;;) {
    process.kill(pid, "SIGSTOP");
    await sleep(200);
    const { rows } = await database.query(
      `select from pg_stat_activity where application_name = 'pulsewire' and state = 'idle in transaction'
         and state_change < clock_timestamp() - interval '150 ms'`,
    );
    if (rows.length > 0) return;
    process.kill(pid, "SIGCONT");
    await sleep(20 + Math.random() * 100);
  }
}

/** Seconds until all that is committed now is processed. */
async function untilTaken(database: Client): Promise<number> {
  const started = performance.now();
  const { rows } = await database.query<{ now: Date }>("select clock_timestamp() as now");
  for (;;) {
    const { rows: left } = await database.query(
      "select from event_batches where processed_at is null and created_at <= $1 limit 1",
      [rows[0]?.now],
    );
    if (left.length === 0) return (performance.now() - started) / 1_000;
    await sleep(20);
  }
}
