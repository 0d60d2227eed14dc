import { mkdir, mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Account } from "./account.ts";

/** The longest path a Unix socket may have on every supported system (macOS: 103 bytes and a zero). */
const maxSocketPath = 103;
const socketName = ".s.PGSQL.5432";

/**
 * A private folder for PostgreSQL's socket: in the data folder, or in the temporary folder where that path is too long.
 * The caller holds the lock on the data folder and no PostgreSQL is left in it, so a socket lock found there belongs to
 * one that was killed. PostgreSQL would refuse to start while its pid is alive, be it another program's or a zombie's.
 */
export async function makeSocketFolder(
  dataDir: string,
  account: Account,
): Promise<{ path: string; remove(): Promise<void> }> {
  const own = path.join(dataDir, "run");
  if (fits(own)) {
    await mkdir(own, { recursive: true, mode: 0o700 });
    await account.own(own);
    await rm(path.join(own, `${socketName}.lock`), { force: true });
    return { path: own, remove: async () => {} };
  }
  const parent = fits(path.join(os.tmpdir(), "pulsewire-XXXXXX")) ? os.tmpdir() : "/tmp";
  const folder = await mkdtemp(path.join(parent, "pulsewire-"));
  await account.own(folder);
  return { path: folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

const fits = (folder: string) => Buffer.byteLength(path.join(folder, socketName)) <= maxSocketPath;
