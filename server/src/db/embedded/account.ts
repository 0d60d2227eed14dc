import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { chown } from "node:fs/promises";
import path from "node:path";
import { EmbeddedDatabaseError } from "./errors.ts";

/** The operating-system account PostgreSQL runs as. */
export interface Account {
  /** Program and arguments that run `command` as this account. */
  wrap(command: string, args: readonly string[]): [string, string[]];
  /** Hands a folder made by this process to the account. */
  own(folder: string): Promise<void>;
}

/**
 * PostgreSQL refuses to run as root. For an ordinary user the account is that user; root hands over to the owner of
 * the cluster, or to `postgres` or `nobody` for a new one, through util-linux' setpriv. The account keeps the file
 * capabilities, because program and data may lie below folders that only root may enter (/root, `mktemp -d`).
 */
export function chooseAccount(pgdata: string): Account {
  const owner = statSync(pgdata, { throwIfNoEntry: false });
  const uid = process.geteuid?.();
  if (uid !== 0) {
    if (owner && uid !== undefined && owner.uid !== uid) {
      throw new EmbeddedDatabaseError(
        "not_writable",
        `The database in ${pgdata} belongs to another user (uid ${owner.uid}). Run the server as that user, ` +
          "or choose another folder with PULSEWIRE_DATA_DIR.",
      );
    }
    return { wrap: (command, args) => [command, [...args]], own: async () => {} };
  }
  const account = owner && owner.uid !== 0 ? owner : serviceAccount();
  const setpriv = findSetpriv();
  return {
    wrap: (command, args) => [setpriv, [...setprivFlags(account), command, ...args]],
    own: (folder) => chown(folder, account.uid, account.gid),
  };
}

function findSetpriv(): string {
  for (const folder of [...(process.env.PATH ?? "").split(path.delimiter), "/usr/bin", "/bin"]) {
    const candidate = path.join(folder, "setpriv");
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this folder.
    }
  }
  throw new EmbeddedDatabaseError(
    "no_setpriv",
    "PostgreSQL does not run as root, and setpriv, which would run it as another user, is missing. Run the server " +
      "as an ordinary user, or install util-linux, or set DATABASE_URL to use an outside PostgreSQL.",
  );
}

function serviceAccount(): { uid: number; gid: number } {
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  for (const name of ["postgres", "nobody"]) {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(":") ?? [];
    if (Number(uid) > 0 && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  return { uid: 65534, gid: 65534 };
}

const capabilities = { dac_override: 1n, dac_read_search: 2n, fowner: 3n, setpcap: 8n };

function setprivFlags(account: { uid: number; gid: number }): string[] {
  const held = heldCapabilities();
  const holds = (name: keyof typeof capabilities) => ((held >> capabilities[name]) & 1n) === 1n;
  const flags = [`--reuid=${account.uid}`, `--regid=${account.gid}`, "--clear-groups", "--no-new-privs"];
  const kept = (["dac_override", "dac_read_search", "fowner"] as const)
    .filter(holds)
    .map((name) => `+${name}`);
  if (kept.length > 0) flags.push(`--inh-caps=${kept.join()}`, `--ambient-caps=${kept.join()}`);
  // access(2), with which initdb looks for its programs, otherwise takes no account of capabilities.
  if (holds("setpcap")) flags.push("--securebits=+no_setuid_fixup");
  return flags;
}

/** A container's root may lack some capabilities, and setpriv fails when asked for one that is missing. */
function heldCapabilities(): bigint {
  const status = readFileSync("/proc/self/status", "utf8");
  const mask = (name: string) => BigInt(`0x${status.match(`${name}:\\s*([0-9a-f]+)`)?.[1] ?? 0}`);
  return mask("CapPrm") & mask("CapBnd");
}
