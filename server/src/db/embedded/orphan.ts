import { readFileSync, readlinkSync, rmSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EmbeddedDatabaseError } from "./errors.ts";

/** How long the database of a killed server may take to shut down. */
export const orphanTimeoutMs = 10_000;

/**
 * Waits until the PostgreSQL of a killed server, which shuts itself down, has left the cluster. The caller holds the
 * lock on the data folder, so no live server stands behind it. Throws `in_use` when it stays.
 */
export async function waitForOrphan(pgdata: string, signal?: AbortSignal): Promise<void> {
  const pidFile = path.join(pgdata, "postmaster.pid");
  const deadline = Date.now() + orphanTimeoutMs;
  for (;;) {
    const pid = readPid(pidFile);
    if (pid === undefined) return;
    if (!servesCluster(pid, pgdata)) {
      // PostgreSQL would mistake any program that has come to bear this pid for its own.
      rmSync(pidFile, { force: true });
      return;
    }
    if (Date.now() > deadline) {
      throw new EmbeddedDatabaseError(
        "in_use",
        `A PostgreSQL left over from an earlier run (pid ${pid}) still uses ${pgdata}. Stop it with: kill -INT ${pid}`,
      );
    }
    await sleep(25, undefined, signal ? { signal } : {});
  }
}

function readPid(file: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(file, "utf8"), 10);
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** PostgreSQL works inside its data folder. Where /proc tells nothing, a living pid is taken for PostgreSQL. */
function servesCluster(pid: number, pgdata: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  if (process.platform !== "linux") return true;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === pgdata;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ENOENT";
  }
}
