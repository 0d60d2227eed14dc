/**
 * The database cut off under load: node test/faults/database-cut.ts
 *
 * First its connections are terminated again and again, then the whole database is stopped and started behind a server
 * that uses it through DATABASE_URL. Callers must see UNAVAILABLE with the time to come back, nothing else, and in the
 * end every event must be there exactly once, without a restart of the server.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, type ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../sdk/src/gen/google/rpc/error_details_pb.js";
import { startEmbedded } from "../../server/src/db/embedded.ts";
import { ownerRole } from "../../server/src/db/roles.ts";
import { testLogger } from "../helpers/cluster.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { type IngestionClient, ingestionClient, runLoad } from "./callers.ts";
import { connectToDatabase } from "./database.ts";
import { conclude, Ledger } from "./ledger.ts";
import { sendUnknownAgain, verifyAcknowledged, verifyRollups, verifyTotals } from "./verify.ts";

const cuts = 12;
const betweenCutsMs = 200;
const beforeOutageMs = 1_000;
const outageMs = 1_500;
const afterOutageMs = 2_000;

const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-cut-"));
const ledgers: Ledger[] = [];
try {
  await terminateConnections();
  await stopDatabase();
} finally {
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}
conclude("database-cut: connections terminated, database stopped and started", ledgers);

async function terminateConnections(): Promise<void> {
  await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  using client = ingestionClient(server.url, readDemoKey(dataDir));
  await check("terminate", client.ingestion, async () => {
    await using database = await connectToDatabase(dataDir);
    for (let cut = 0; cut < cuts; cut++) {
      await sleep(betweenCutsMs);
      await database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pulsewire'",
      );
    }
    await sleep(betweenCutsMs);
  });
  await server.stop();
}

/** On the folder of the first part, whose demo tenant and key are there. */
async function stopDatabase(): Promise<void> {
  const apiKey = readDemoKey(dataDir);
  let database = await startEmbedded({ dataDir, logger: testLogger });
  try {
    const socket = encodeURIComponent(path.join(database.dataDir, "run"));
    const url = `postgres://${ownerRole}@localhost/pulsewire?host=${socket}`;
    const settings = {
      DATABASE_URL: url,
      // The embedded default made one for the secrets in the database.
      PULSEWIRE_KEY_ENCRYPTION_KEY: readFileSync(path.join(dataDir, "encryption.key"), "utf8").trim(),
    };
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir, ...settings });
    using client = ingestionClient(server.url, apiKey);
    await check("stop", client.ingestion, async () => {
      await sleep(beforeOutageMs);
      await database.stop();
      await sleep(outageMs);
      database = await startEmbedded({ dataDir, logger: testLogger });
      await sleep(afterOutageMs);
    });
    await server.stop();
  } finally {
    await database.stop();
  }
}

/** Runs load during a fault, then has the server prove that it lost and doubled nothing. */
async function check(name: string, ingestion: IngestionClient, fault: () => Promise<void>): Promise<void> {
  const ledger = new Ledger(`fault.${name}`);
  ledgers.push(ledger);
  const over = new AbortController();
  let unavailable = 0;
  const load = runLoad({
    ingestion,
    ledger,
    until: over.signal,
    onFailure(error) {
      ledger.expect(error.code === Code.Unavailable, `a call failed with ${error.message}`);
      ledger.expect(saysWhenToReturn(error), `no time to come back: ${error.message}`);
      unavailable++;
    },
  });
  try {
    await fault();
  } finally {
    over.abort();
    await load;
  }
  ledger.expect(unavailable > 0, "no call noticed the fault");
  const acknowledged = ledger.acknowledged.length;
  const unknown = ledger.unknown.length;
  await using database = await connectToDatabase(dataDir);
  await verifyAcknowledged(ledger, database, ingestion);
  const committed = await sendUnknownAgain(ledger, ingestion);
  await verifyTotals(ledgers, ledger, database);
  await verifyRollups(ledgers, ledger, database, ingestion);
  console.log(
    `${name.padEnd(9)}  acknowledged ${acknowledged}  unknown ${unknown}  of these committed ${committed}` +
      `  calls answered UNAVAILABLE ${unavailable}`,
  );
}

function saysWhenToReturn(error: ConnectError): boolean {
  return error.findDetails(RetryInfoSchema).some(({ retryDelay }) => retryDelay !== undefined);
}
