/** What an error of the database means for the caller. */
export type DatabaseErrorKind =
  /** Rolled back for the sake of another transaction; the same transaction may be run again. */
  | "retry"
  /** The row exists already. */
  | "conflict"
  /** A row that is referred to does not exist, or is still referred to. */
  | "precondition"
  /** The data does not fit: a bug in validation, since validation comes first. */
  | "invalid"
  /** A statement or lock took longer than its limit. */
  | "timeout"
  /** Disk, memory or connections have run out. */
  | "exhausted"
  /** The database cannot be reached or is shutting down. The outcome of a commit under way is unknown. */
  | "unavailable"
  /** Everything else: our mistake, never the caller's. */
  | "internal";

/** A classified error. `sqlstate` is absent when the connection failed before the server could answer. */
export interface DatabaseFailure {
  readonly kind: DatabaseErrorKind;
  readonly note: string;
  readonly sqlstate?: string;
}

type Entry = readonly [DatabaseErrorKind, string];

/** Five characters are a code, two are its class; the code wins. https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const sqlstates: Readonly<Record<string, Entry>> = {
  "08": ["unavailable", "connection exception"],
  "22": ["invalid", "data exception"],
  "23": ["invalid", "integrity constraint violation"],
  "23001": ["precondition", "row is still referred to"],
  "23503": ["precondition", "row that is referred to does not exist, or is still referred to"],
  "23505": ["conflict", "unique violation"],
  "23514": ["invalid", "check violation"],
  "23P01": ["conflict", "exclusion violation"],
  "25006": ["unavailable", "the server is read-only, as a standby is during a failover"],
  "25P03": ["timeout", "transaction was idle for too long"],
  "25P04": ["timeout", "transaction took too long"],
  "28": ["unavailable", "the database refuses our credentials"],
  "3D000": ["unavailable", "the database does not exist"],
  "40001": ["retry", "serialization failure"],
  "40P01": ["retry", "deadlock"],
  "40003": ["unavailable", "statement completion unknown"],
  "42": ["internal", "wrong statement or missing right; 42501 is also what row security answers to a write"],
  "53": ["exhausted", "insufficient resources"],
  "53100": ["exhausted", "disk full"],
  "53200": ["exhausted", "out of memory"],
  "53300": ["exhausted", "too many connections"],
  "54": ["invalid", "program limit exceeded, such as a value too long for its index"],
  "55P03": ["timeout", "lock not available in time"],
  "57014": ["timeout", "statement took too long"],
  "57P01": ["unavailable", "shut down by an administrator"],
  "57P02": ["unavailable", "crash shutdown"],
  "57P03": ["unavailable", "cannot connect now: starting up or shutting down"],
  "57P04": ["unavailable", "the database was dropped"],
  "57P05": ["unavailable", "idle session timeout"],
  "58": ["unavailable", "the database's system failed, as with an I/O error"],
};

const connectionCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
]);

/** node-postgres gives these no code. */
const connectionMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Client has encountered a connection error|Client was closed|Cannot use a pool after calling end|Connection ended unexpectedly)/;

/**
 * Tells what an error thrown by a query, a transaction or the pool means. Looks through `cause`.
 * Returns undefined for an error that is not the database's.
 */
export function classifyDatabaseError(error: unknown): DatabaseFailure | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, syscall, severity } = error as NodeJS.ErrnoException & { severity?: string };
  // Only errors sent by the server have a severity: other libraries use codes of five characters too.
  if (code !== undefined && severity !== undefined && /^[0-9A-Z]{5}$/.test(code)) {
    const [kind, note] = sqlstates[code] ??
      sqlstates[code.slice(0, 2)] ?? ["internal", "unexpected database error"];
    return { kind, note, sqlstate: code };
  }
  const unreachable =
    (code !== undefined && connectionCodes.has(code)) ||
    (code === "ENOENT" && syscall === "connect") ||
    connectionMessages.test(error.message);
  if (unreachable) return { kind: "unavailable", note: "the database cannot be reached" };
  return classifyDatabaseError(error.cause);
}
