import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

/** Who serves from a data folder. `endpoint` is null until the server listens. */
export interface ServerFile {
  readonly pid: number;
  readonly endpoint: string | null;
}

const fileIn = (dataDir: string) => path.join(dataDir, "server.json");

/** Writes `server.json`, so that a second server and scripts can tell who is running. It is information, no lock. */
export function writeServerFile(dataDir: string, content: ServerFile): void {
  writeFileSync(fileIn(dataDir), `${JSON.stringify(content)}\n`, { mode: 0o600 });
}

/** Reads `server.json`; undefined when it is absent or unreadable. A crash leaves it behind, so the pid may be gone. */
export function readServerFile(dataDir: string): ServerFile | undefined {
  try {
    const { pid, endpoint } = JSON.parse(readFileSync(fileIn(dataDir), "utf8"));
    if (!Number.isInteger(pid)) return undefined;
    return { pid, endpoint: typeof endpoint === "string" ? endpoint : null };
  } catch {
    return undefined;
  }
}

/** Removes `server.json` if it is there. */
export function removeServerFile(dataDir: string): void {
  rmSync(fileIn(dataDir), { force: true });
}
