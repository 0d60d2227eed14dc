/**
 * API and worker as processes of their own, killed at random moments: node test/faults/workers.ts [--rounds 20]
 *
 * Each round loads the API, kills a worker, the API, both, or PostgreSQL with all its processes, some of them more than once, starts
 * again what was killed, and checks that every acknowledged event is in the table once and in the rollups once.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { ingestionClient, runLoad } from "./callers.ts";
import { connectToDatabase } from "./database.ts";
import { conclude, Ledger } from "./ledger.ts";
import { startParts } from "./parts.ts";
import { sendUnknownAgain, verifyAcknowledged, verifyRollups, verifyTotals } from "./verify.ts";

const minLoadMs = 150;
const maxLoadMs = 700;

const { values } = parseArgs({ options: { rounds: { type: "string", default: "20" } } });
const rounds = Number(values.rounds);
const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-workers-"));
const ledgers: Ledger[] = [];
try {
  // Makes the demo tenant and its key.
  await (await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir })).stop();
  await using parts = await startParts(dataDir);
  const faults: Record<string, () => Promise<void>> = {
    "worker killed": () => parts.kill("worker"),
    "API killed": () => parts.kill("api"),
    "both killed": async () => void (await Promise.all([parts.kill("api"), parts.kill("worker")])),
    "worker killed twice": async () => {
      await parts.kill("worker");
      await parts.start("worker");
      await sleep(Math.random() * maxLoadMs);
      await parts.kill("worker");
    },
    "database killed": () => parts.crashDatabase(),
  };
  for (let round = 1; round <= rounds; round++) {
    const [title, fault] = Object.entries(faults)[round % Object.keys(faults).length] as [
      string,
      () => Promise<void>,
    ];
    const ledger = new Ledger(`fault.workers.${round}`);
    ledgers.push(ledger);
    await loadDuring(ledger, parts.apiUrl(), async () => {
      await sleep(minLoadMs + Math.random() * (maxLoadMs - minLoadMs));
      await fault();
    });
    await parts.startAll();
    using client = ingestionClient(parts.apiUrl(), readDemoKey(dataDir));
    await using database = await connectToDatabase(dataDir);
    await verifyAcknowledged(ledger, database, client.ingestion);
    await sendUnknownAgain(ledger, client.ingestion);
    await verifyTotals(ledgers, ledger, database);
    await verifyRollups(ledgers, ledger, database, client.ingestion);
    console.log(
      `round ${String(round).padStart(3)}  ${title.padEnd(19)}  events ${String(ledger.events.size).padStart(6)}` +
        (ledger.violations.length > 0 ? `  VIOLATIONS ${ledger.violations.length}` : ""),
    );
  }
} finally {
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}
conclude(`workers: ${rounds} rounds`, ledgers);

async function loadDuring(ledger: Ledger, url: string, fault: () => Promise<void>): Promise<void> {
  using client = ingestionClient(url, readDemoKey(dataDir));
  const over = new AbortController();
  const load = runLoad({ ingestion: client.ingestion, ledger, until: over.signal, onFailure() {} });
  try {
    await fault();
  } finally {
    over.abort();
    await load;
  }
}
