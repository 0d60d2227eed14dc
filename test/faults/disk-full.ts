/**
 * A full disk under load: node test/faults/disk-full.ts
 *
 * The data folder lies in a small file system of its own, which a file fills up to the last block. Two rounds: PostgreSQL's
 * log on another disk, so that its tables cannot grow (it refuses the writes, and all goes on when there is room again); and
 * the log on the full disk, too (PostgreSQL stops, the server with it, and both are started again). Callers must be told
 * when to come back, and in the end every acknowledged event must be there exactly once. Mounting needs root.
 */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, renameSync, rmSync, statfsSync, symlinkSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../sdk/src/gen/google/rpc/error_details_pb.js";
import { pgdataIn } from "../../server/src/db/embedded/cluster.ts";
import { readDemoKey, type ServerProcess, startServerProcess } from "../helpers/server-process.ts";
import { ingestionClient, runLoad } from "./callers.ts";
import { connectToDatabase } from "./database.ts";
import { conclude, Ledger } from "./ledger.ts";
import { statOf } from "./processes.ts";
import { sendUnknownAgain, verifyAcknowledged, verifyRollups, verifyTotals } from "./verify.ts";

const diskMb = 512;
const beforeMs = 1_000;
/** How long the disk stays full after the first call has noticed. */
const fullMs = 1_500;
const afterMs = 1_500;
const noticeMs = 30_000;

const ledgers: Ledger[] = [];
await round("tables", async (dataDir, elsewhere) => {
  const log = path.join(pgdataIn(dataDir), "pg_wal");
  cpSync(log, elsewhere, { recursive: true });
  execFileSync("chown", ["-R", "--reference", log, elsewhere]);
  renameSync(log, `${log}.before`);
  rmSync(`${log}.before`, { recursive: true });
  symlinkSync(elsewhere, log);
});
await round("log", async () => {});
conclude("disk-full: no room for tables, no room for the log", ledgers);

async function round(name: string, prepare: (dataDir: string, elsewhere: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "pulsewire-full-"));
  const dataDir = path.join(folder, "data");
  const elsewhere = path.join(folder, "log");
  execFileSync("mkdir", [dataDir]);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${diskMb}m`, "tmpfs", dataDir]);
  let server: ServerProcess | undefined;
  try {
    // Makes the cluster, the demo tenant and its key.
    await (await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir })).stop();
    await prepare(dataDir, elsewhere);
    server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    server = await fillUnderLoad(name, dataDir, server);
    await server.stop();
  } finally {
    await server?.kill();
    await unmount(dataDir);
    await rm(folder, { recursive: true, force: true });
  }
}
