import { randomUUID } from "node:crypto";
import {
  linkSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { uptime } from "node:os";
import { join } from "node:path";

/** The spool's directory is in use by a process that runs. */
export class SpoolLockedError extends Error {
  override readonly name = "SpoolLockedError";
  /** The process that holds it. */
  readonly pid: number;

  constructor(directory: string, pid: number) {
    super(`The spool in ${directory} is in use by process ${pid}. Give each gateway a directory of its own.`);
    this.pid = pid;
  }
}

/** Who holds a lock. A pid alone is not enough: after a reboot, or in a new container, another has the same one. */
interface Owner {
  pid: number;
  /** When the process began, in the system's own ticks; empty where the system does not tell. */
  started: string;
  /** Which start of the machine it was. */
  boot: string;
}

/** Boot times closer than this are one: the clock may have been set meanwhile. */
const bootToleranceSeconds = 60;

const namePattern = /^lock\.(\d+)$/;

/**
 * Takes the lock of a directory; one whose process is no more is taken over.
 *
 * Each holder makes a file of the next number. Two that take over at once want the same number, and only one of them
 * can make it. It sees processes of this machine only, and within a container only those of the container.
 *
 * @returns gives it back
 * @throws SpoolLockedError where a running process has it, this one included
 */
export function takeLock(directory: string): () => void {
  const draft = join(directory, `lock-${randomUUID()}.tmp`);
  const owner = JSON.stringify(ownerOf(process.pid));
  const create = writeDraft(draft, owner)
    ? (path: string) => linkSync(draft, path)
    : (path: string) => symlinkSync(owner, path);
  try {
    for (;;) {
      const newest = refuseIfHeld(directory);
      const mine = `lock.${newest + 1}`;
      try {
        create(join(directory, mine));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
        throw error;
      }
      const release = () => rmSync(join(directory, mine), { force: true });
      try {
        // Somebody may have begun anew at 1 meanwhile. Better that both give up than that both go on.
        refuseIfHeld(directory, mine);
      } catch (error) {
        release();
        throw error;
      }
      for (const name of lockNames(directory))
        if (name !== mine) rmSync(join(directory, name), { force: true });
      return release;
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** False on a full disk, which has no room for content, but has for a link, whose target can tell the same. */
function writeDraft(path: string, owner: string): boolean {
  try {
    writeFileSync(path, owner);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") return false;
    throw error;
  }
}

/** The newest lock's number, 0 where there is none. Throws where one is held by a process that runs. */
function refuseIfHeld(directory: string, except?: string): number {
  let newest = 0;
  for (const name of lockNames(directory)) {
    newest = Math.max(newest, Number(name.slice("lock.".length)));
    const owner = name === except ? undefined : readOwner(join(directory, name));
    if (owner && isRunning(owner)) throw new SpoolLockedError(directory, owner.pid);
  }
  return newest;
}

function lockNames(directory: string): string[] {
  return readdirSync(directory).filter((name) => namePattern.test(name));
}

function readOwner(path: string): Owner | undefined {
  try {
    const text = lstatSync(path).isSymbolicLink() ? readlinkSync(path) : readFileSync(path, "utf8");
    return JSON.parse(text) as Owner;
  } catch {
    // Gone meanwhile, or lost its content with the power: in both cases nobody holds it.
    return undefined;
  }
}

function isRunning(owner: Owner): boolean {
  const now = ownerOf(owner.pid);
  if (!isSameBoot(now.boot, owner.boot) || now.started !== owner.started) return false;
  try {
    process.kill(owner.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function ownerOf(pid: number): Owner {
  return { pid, started: startOf(pid), boot: bootIdentity() };
}

/** Field 22 of /proc/PID/stat; the name in field 2 may hold blanks and parentheses. */
function startOf(pid: number): string {
  const stat = readSystemFile(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

/** Linux has an id for it; elsewhere it is the second in which the machine was started, as far as clocks tell. */
function bootIdentity(): string {
  const id = readSystemFile("/proc/sys/kernel/random/boot_id").trim();
  return id || String(Math.round(Date.now() / 1000 - uptime()));
}

function isSameBoot(a: string, b: string): boolean {
  return a === b || Math.abs(Number(a) - Number(b)) < bootToleranceSeconds;
}

function readSystemFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Not Linux, or no such process.
    return "";
  }
}
