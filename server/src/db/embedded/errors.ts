/** What kept the embedded database from starting. Each has its own remedy, told in the message. */
export type EmbeddedDatabaseErrorCode =
  | "in_use"
  | "not_writable"
  | "other_version"
  | "no_binaries"
  | "no_setpriv"
  | "start_failed";

/** The embedded database could not be started. `message` is meant for the person at the terminal. */
export class EmbeddedDatabaseError extends Error {
  override readonly name = "EmbeddedDatabaseError";
  readonly code: EmbeddedDatabaseErrorCode;

  constructor(code: EmbeddedDatabaseErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const refusals = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "ENOENT"]);

/** Turns a refusal by the file system into plain words; any other error is returned as it is. */
export function explainFileError(dataDir: string, error: unknown): unknown {
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (!code || !refusals.has(code) || /^(connect|spawn)/.test(syscall ?? "")) return error;
  return new EmbeddedDatabaseError(
    "not_writable",
    `The data folder ${dataDir} cannot be used (${code}): it must be a folder that this user may write to. ` +
      "Choose another one with PULSEWIRE_DATA_DIR, or set DATABASE_URL to use an outside PostgreSQL.",
    { cause: error },
  );
}
