import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { pgdataIn } from "../../server/src/db/embedded/cluster.ts";

/** What Linux tells of a process; undefined when it has ended. */
export interface ProcessStat {
  readonly pid: number;
  readonly parent: number;
  /** CPU time in seconds, of all threads. */
  readonly cpu: number;
  /** CPU time of the children that have ended. */
  readonly endedChildrenCpu: number;
}

const ticksPerSecond = 100;

/** Reads /proc/<pid>/stat. */
export function statOf(pid: number): ProcessStat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the name in parentheses, which may hold anything.
    const fields = text
      .slice(text.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    const [utime = 0, stime = 0, cutime = 0, cstime = 0] = fields.slice(11, 15);
    return {
      pid,
      parent: fields[1] ?? 0,
      cpu: (utime + stime) / ticksPerSecond,
      endedChildrenCpu: (cutime + cstime) / ticksPerSecond,
    };
  } catch {
    return undefined;
  }
}

/** Memory of a process that is in use, MiB. */
export function residentMb(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Math.round(Number(kilobytes) / 1_024);
}

/** The children of a process. */
export function childrenOf(parent: number): ProcessStat[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statOf(Number(name)))
    .filter((stat) => stat?.parent === parent) as ProcessStat[];
}

/** The pid of the embedded PostgreSQL of a data folder. */
export function postmasterOf(dataDir: string): number {
  return Number.parseInt(readFileSync(path.join(pgdataIn(dataDir), "postmaster.pid"), "utf8"), 10);
}

/** Kills PostgreSQL with all its processes at once: a crash, after which the next start has to recover from the log. */
export function crashPostgres(postmaster: number): void {
  const backends = childrenOf(postmaster);
  // First the one that would begin the others again.
  for (const pid of [postmaster, ...backends.map(({ pid }) => pid)]) {
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}
