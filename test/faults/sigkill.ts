/**
 * SIGKILL in the middle of ingestion: node test/faults/sigkill.ts [--rounds 20]
 *
 * Each round loads the real server, kills it at a random moment (every second time together with its whole PostgreSQL),
 * starts it again on the same folder and checks that every acknowledged event is there exactly once. Exits with 1
 * when anything is lost, doubled or contradictory.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { readDemoKey, type ServerProcess, startServerProcess } from "../helpers/server-process.ts";
import { ingestionClient, runLoad } from "./callers.ts";
import { connectToDatabase } from "./database.ts";
import { conclude, Ledger } from "./ledger.ts";
import { crashPostgres, postmasterOf } from "./processes.ts";
import { sendUnknownAgain, verifyAcknowledged, verifyRollups, verifyTotals } from "./verify.ts";

const minLoadMs = 200;
const maxLoadMs = 1_000;

const { values } = parseArgs({ options: { rounds: { type: "string", default: "20" } } });
const rounds = Number(values.rounds);
const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-sigkill-"));
const ledgers: Ledger[] = [];
let server: ServerProcess | undefined;
try {
  server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  for (let round = 1; round <= rounds; round++) server = await runRound(round, server);
  await server.stop();
} finally {
  await server?.kill();
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}

conclude(`sigkill: ${rounds} rounds`, ledgers);

async function runRound(round: number, running: ServerProcess): Promise<ServerProcess> {
  const ledger = new Ledger(`fault.sigkill.${round}`);
  ledgers.push(ledger);
  const withDatabase = round % 2 === 0;
  await loadAndKill(ledger, running, withDatabase);
  const counted = { acknowledged: ledger.acknowledged.length, unknown: ledger.unknown.length };

  const restarted = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  try {
    using client = ingestionClient(restarted.url, readDemoKey(dataDir));
    await using database = await connectToDatabase(dataDir);
    await verifyAcknowledged(ledger, database, client.ingestion);
    const recovered = await sendUnknownAgain(ledger, client.ingestion);
    await verifyTotals(ledgers, ledger, database);
    await verifyRollups(ledgers, ledger, database, client.ingestion);
    console.log(
      `round ${String(round).padStart(2)}  killed ${withDatabase ? "server and database" : "server             "}` +
        `  acknowledged ${String(counted.acknowledged).padStart(6)}  unknown ${String(counted.unknown).padStart(5)}` +
        `  of these committed ${String(recovered).padStart(5)}  restart ${Math.round(restarted.startedInMs)} ms` +
        (ledger.violations.length > 0 ? `  VIOLATIONS ${ledger.violations.length}` : ""),
    );
    return restarted;
  } catch (error) {
    await restarted.kill();
    throw error;
  }
}

async function loadAndKill(ledger: Ledger, running: ServerProcess, withDatabase: boolean): Promise<void> {
  using client = ingestionClient(running.url, readDemoKey(dataDir));
  const postmaster = postmasterOf(dataDir);
  const killed = new AbortController();
  const load = runLoad({
    ingestion: client.ingestion,
    ledger,
    until: killed.signal,
    onFailure(error) {
      ledger.expect(killed.signal.aborted, `a call failed before the server was killed: ${error.message}`);
    },
  });
  await sleep(minLoadMs + Math.random() * (maxLoadMs - minLoadMs));
  killed.abort();
  if (withDatabase) crashPostgres(postmaster);
  await running.kill();
  await load;
}
