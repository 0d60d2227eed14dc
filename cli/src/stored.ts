/** What `login` leaves on disk: a file that only its owner can read. */
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { Failure } from "./failure.ts";
import type { Io } from "./io.ts";

/** A session of a person. */
export interface StoredSession {
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

export interface Stored {
  readonly endpoint: string;
  readonly apiKey?: string;
  readonly session?: StoredSession;
}

/** `pulsewire/credentials.json` in the user's config folder; PULSEWIRE_CONFIG_DIR names another folder. */
export function credentialsFile({ env, home }: Pick<Io, "env" | "home">): string {
  const folder =
    env.PULSEWIRE_CONFIG_DIR ||
    path.join(env.XDG_CONFIG_HOME || env.APPDATA || path.join(home, ".config"), "pulsewire");
  return path.join(folder, "credentials.json");
}

/** Undefined where nobody is signed in. */
export async function readStored(file: string): Promise<Stored | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const stored = JSON.parse(text);
    if (typeof stored.endpoint === "string" && (stored.apiKey || stored.session)) return stored;
  } catch {
    // Said below: no JSON is no better than other JSON.
  }
  throw new Failure(`${file} is not what \`pulsewire login\` writes. Remove it and sign in again.`);
}

/** Whole or not at all, so that another process never reads half of it. */
export async function writeStored(file: string, stored: Stored): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const next = `${file}.${process.pid}`;
  await writeFile(next, `${JSON.stringify(stored, null, 2)}\n`, { mode: 0o600 });
  await chmod(next, 0o600);
  await rename(next, file);
}

export async function removeStored(file: string): Promise<void> {
  await rm(file, { force: true });
}
