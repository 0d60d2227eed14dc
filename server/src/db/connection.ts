import type { ClientConfig, CustomTypesConfig } from "pg";
import { types } from "pg";
import { type DatabaseLimits, databaseLimits } from "./limits.ts";
import { appRole, schemaName } from "./roles.ts";

/**
 * The way to an outside PostgreSQL. Throws for anything but a `postgres://` URL, without repeating it, for it holds
 * the password.
 */
export function connectionFromUrl(url: string): ClientConfig {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new Error("The database URL must look like postgres://user:password@host:5432/database");
  }
  return { connectionString: url };
}

/** The settings of a service connection, also for a client outside the pool (LISTEN). It acts as `pulsewire_app`. */
export function serviceConnection(
  connection: ClientConfig,
  limits: Partial<DatabaseLimits> = {},
): ClientConfig {
  const { statementTimeoutMs, lockTimeoutMs, idleInTransactionTimeoutMs, connectTimeoutMs } = {
    ...databaseLimits,
    ...limits,
  };
  return {
    // A start-up option, not SET ROLE: RESET ROLE comes back to it.
    ...withOptions(connection, `-c role=${appRole} -c search_path=${schemaName}`),
    application_name: "pulsewire",
    types: typeParsers,
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    lock_timeout: lockTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
  };
}

/** The settings of an owner's connection: for migrations, which may take as long as they need. */
export function ownerConnection(connection: ClientConfig): ClientConfig {
  return {
    ...withOptions(connection, `-c search_path=${schemaName}`),
    application_name: "pulsewire-migrations",
    types: typeParsers,
    connectionTimeoutMillis: databaseLimits.connectTimeoutMs,
  };
}

/** node-postgres lets the URL win over everything else, and the last option of a kind wins. */
function withOptions(connection: ClientConfig, options: string): ClientConfig {
  const { connectionString } = connection;
  if (connectionString === undefined) {
    return { ...connection, options: [connection.options, options].filter(Boolean).join(" ") };
  }
  const url = new URL(connectionString);
  url.searchParams.set("options", [url.searchParams.get("options"), options].filter(Boolean).join(" "));
  // `+` for a space is form encoding, which node-postgres reads, but libpq and poolers do not.
  return { ...connection, connectionString: url.href.replaceAll("+", "%20") };
}

const INT8 = 20;

/** bigint for int8, as in the generated messages: a string adds up wrongly, a number loses digits. */
const typeParsers: CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    oid === INT8 && format !== "binary"
      ? BigInt
      : types.getTypeParser(oid, format as "text")) as CustomTypesConfig["getTypeParser"],
};
