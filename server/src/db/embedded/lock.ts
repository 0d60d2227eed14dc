import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { EmbeddedDatabaseError, explainFileError } from "./errors.ts";
import { readServerFile } from "./server-file.ts";

const SQLITE_BUSY = 5;

/**
 * Takes the data folder for this process until the returned function is called or the process ends.
 * Throws `in_use`, naming the holder, when another server has it.
 *
 * Node offers no flock(2), and a file that holds a pid lies after a crash or in the next container. An exclusive
 * SQLite transaction is a lock of the kernel's, which goes with the process however it ends.
 */
export function lockDataDir(dataDir: string): () => void {
  let file: DatabaseSync | undefined;
  try {
    file = new DatabaseSync(path.join(dataDir, "lock"), { timeout: 0 });
    file.exec("begin exclusive");
  } catch (error) {
    file?.close();
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) throw inUse(dataDir);
    throw explainFileError(
      dataDir,
      Object.assign(new Error("cannot lock", { cause: error }), { code: "EACCES" }),
    );
  }
  const held = file;
  return () => held.close();
}

/** The error for a data folder that another server holds. */
export function inUse(dataDir: string): EmbeddedDatabaseError {
  const holder = readServerFile(dataDir);
  const who = holder
    ? `the server with pid ${holder.pid}${holder.endpoint ? ` at ${holder.endpoint}` : ""}`
    : "another server";
  return new EmbeddedDatabaseError(
    "in_use",
    `The data folder ${dataDir} is in use by ${who}. Use that one, or stop it, ` +
      "or give this server a folder of its own with PULSEWIRE_DATA_DIR.",
  );
}
