/**
 * A full disk under load: node test/faults/disk-full.ts
 *
 * A small file system of its own is filled up to the last block: first the one of the data folder, so that no table can grow
 * (PostgreSQL refuses the writes, and all goes on when there is room again), then the one of PostgreSQL's log (it crashes, and
 * what is then not running is started again). Callers must be told
 * when to come back, and in the end every acknowledged event must be there exactly once. Mounting needs root.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { explainBroken } from "../../sdk/src/broken-connection.ts";
import { asPulsewireError } from "../../sdk/src/errors.ts";
import { RetryInfoSchema } from "../../sdk/src/gen/google/rpc/error_details_pb.js";
import { pgdataIn } from "../../server/src/db/embedded/cluster.ts";
import { readDemoKey, type ServerProcess, startServerProcess } from "../helpers/server-process.ts";
import { ingestionClient, runLoad } from "./callers.ts";
import { connectToDatabase } from "./database.ts";
import { conclude, Ledger } from "./ledger.ts";
import { statOf } from "./processes.ts";
import { sendUnknownAgain, verifyAcknowledged, verifyRollups, verifyTotals } from "./verify.ts";

const diskMb = 256;
const beforeMs = 1_000;
/** How long the disk stays full after the first call has noticed. */
const fullMs = 1_500;
const afterMs = 1_500;
const noticeMs = 30_000;
const recoveryMs = 60_000;

const ledgers: Ledger[] = [];
await round("tables");
await round("log");
conclude("disk-full: no room for tables, no room for the log", ledgers);

/** One of both folders is the small disk, so that nothing else runs out of room before. */
async function round(name: "tables" | "log"): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "pulsewire-full-"));
  const dataDir = path.join(folder, "data");
  const logDir = path.join(folder, "log");
  mkdirSync(dataDir);
  mkdirSync(logDir);
  const small = name === "tables" ? dataDir : logDir;
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${diskMb}m`, "tmpfs", small]);
  let server: ServerProcess | undefined;
  try {
    // Makes the cluster, the demo tenant and its key.
    await (await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir })).stop();
    moveLog(path.join(pgdataIn(dataDir), "pg_wal"), logDir);
    server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    server = await fillUnderLoad(name, dataDir, small, server);
    await server.stop();
  } finally {
    await server?.kill();
    await unmount(small);
    await rm(folder, { recursive: true, force: true });
  }
}

function moveLog(from: string, to: string): void {
  execFileSync("cp", ["-a", `${from}/.`, to]);
  // As PostgreSQL's account has it.
  execFileSync("chmod", ["755", path.dirname(to)]);
  rmSync(from, { recursive: true });
  symlinkSync(to, from);
}

/** Returns the server, which is another one where the first did not live through it. */
async function fillUnderLoad(
  name: string,
  dataDir: string,
  small: string,
  running: ServerProcess,
): Promise<ServerProcess> {
  const ledger = new Ledger(`fault.full.${name}`);
  const apiKey = readDemoKey(dataDir);
  const over = new AbortController();
  const noticed = Promise.withResolvers<void>();
  let refused = 0;
  let server = running;
  {
    using client = ingestionClient(server.url, apiKey);
    const load = runLoad({
      ingestion: client.ingestion,
      ledger,
      until: over.signal,
      onFailure(error) {
        refused++;
        noticed.resolve();
        const known =
          error.code === Code.Unavailable ||
          error.code === Code.ResourceExhausted ||
          // A server that ends may break the connection, which Connect has many names for.
          (name === "log" && explainBroken(asPulsewireError(error)).code === Code.Unavailable);
        ledger.expect(known, `a call failed with ${error.message}`);
        // A server that has ended says nothing.
        const told = error.findDetails(RetryInfoSchema).some(({ retryDelay }) => retryDelay !== undefined);
        ledger.expect(told || name === "log", `no time to come back: ${error.message}`);
      },
    });
    try {
      await sleep(beforeMs);
      const ballast = path.join(small, "ballast");
      await fill(ballast);
      await Promise.race([noticed.promise, sleep(noticeMs)]);
      await sleep(fullMs);
      await rm(ballast);
      await untilReadyOrEnded(server);
      await sleep(afterMs);
    } finally {
      over.abort();
      await load;
    }
  }
  ledger.expect(refused > 0, "no call noticed that the disk was full");
  const survived = statOf(server.pid) !== undefined;
  ledger.expect(survived || name === "log", "the server ended");
  if (!survived) server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  using client = ingestionClient(server.url, apiKey);
  await using database = await connectToDatabase(dataDir);
  const counted = { acknowledged: ledger.acknowledged.length, unknown: ledger.unknown.length };
  await verifyAcknowledged(ledger, database, client.ingestion);
  const committed = await sendUnknownAgain(ledger, client.ingestion);
  await verifyTotals([ledger], ledger, database);
  await verifyRollups([ledger], ledger, database, client.ingestion);
  console.log(
    `${name.padEnd(6)}  acknowledged ${counted.acknowledged}  unknown ${counted.unknown}  of these committed ${committed}` +
      `  calls refused ${refused}  server ${survived ? "went on" : "started again"}`,
  );
  ledgers.push(ledger);
  return server;
}

/** PostgreSQL recovers by itself after a crash; where it cannot, the server ends. */
async function untilReadyOrEnded(server: ServerProcess): Promise<void> {
  for (const end = Date.now() + recoveryMs; Date.now() < end; await sleep(100)) {
    if (statOf(server.pid) === undefined) return;
    const answer = await fetch(`${server.url}/readyz`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return;
  }
}

/** Writes until there is no room left. */
async function fill(file: string): Promise<void> {
  await using handle = await open(file, "w");
  for (let size = 1 << 20; size >= 4_096; ) {
    try {
      const { bytesWritten } = await handle.write(Buffer.alloc(size));
      if (bytesWritten < size) size >>= 1;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      size >>= 1;
    }
  }
}

async function unmount(folder: string): Promise<void> {
  // PostgreSQL may take a moment to end.
  for (let attempt = 1; ; attempt++) {
    try {
      execFileSync("umount", [folder], { stdio: "pipe" });
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await sleep(100);
    }
  }
}
