import { Kysely, PostgresDialect } from "kysely";
import { type ClientConfig, Pool } from "pg";
import type { Logger } from "pino";
import { ownerConnection, serviceConnection } from "./connection.ts";
import { keepStatements } from "./kept-statements.ts";
import { type DatabaseLimits, databaseLimits } from "./limits.ts";
import { schemaName } from "./roles.ts";
import type { Database } from "./schema.ts";

/** Connections and the query builder on top of them. */
export interface DatabasePool {
  readonly pool: Pool;
  /** Sees no tenant's rows: use `withTenant`. */
  readonly db: Kysely<Database>;
  /** Waits for the connections that are lent and ends all. (`db.destroy()` ends nothing if `db` was never used.) */
  close(): Promise<void>;
}

/** What a pool may be told. */
export interface PoolOptions {
  readonly logger: Logger;
  readonly limits?: Partial<DatabaseLimits>;
}

/** The service's pool: every connection acts as `pulsewire_app` and within the limits. Connects on first use. */
export function createPool(connection: ClientConfig, options: PoolOptions): DatabasePool {
  const limits = { ...databaseLimits, ...options.limits };
  return open(serviceConnection(connection, limits), limits.maxConnections, limits, options.logger);
}

/** A small pool for the schema's owner: migrations, schema dumps and tests. No statement timeout. */
export function createOwnerPool(
  connection: ClientConfig,
  options: { readonly logger: Logger },
): DatabasePool {
  return open(ownerConnection(connection), 2, databaseLimits, options.logger);
}

function open(config: ClientConfig, max: number, limits: DatabaseLimits, logger: Logger): DatabasePool {
  const pool = new Pool({
    ...config,
    max,
    idleTimeoutMillis: limits.idleTimeoutMs,
    maxLifetimeSeconds: limits.maxLifetimeSeconds,
  });
  // A connection that breaks between two queries has no caller to tell, and an error without a listener would end the
  // process: idle ones are the pool's, which replaces them; lent ones are nobody's.
  pool.on("error", () => {});
  pool.on("connect", (client) => {
    client.on("error", (error) => {
      // An ended pool does not wait until its connections have closed.
      if (!pool.ending) logger.warn({ err: error }, "database connection lost");
    });
  });
  let ended: Promise<void> | undefined;
  const close = () => {
    ended ??= pool.ending ? Promise.resolve() : pool.end();
    return ended;
  };
  return {
    pool,
    db: new Kysely<Database>({ dialect: new PostgresDialect({ pool: keepStatements(pool) }) }),
    close,
  };
}

/**
 * Refuses to serve with a role that row security does not bind: a superuser, one with BYPASSRLS, or one that owns, or
 * may act as the owner of, a table of ours. Throws an error that names the reason.
 */
export async function assertConfined(pool: Pool): Promise<void> {
  const { rows } = await pool.query<{
    role: string;
    rolsuper: boolean;
    rolbypassrls: boolean;
    owns: boolean;
  }>(
    `select current_user as role, rolsuper, rolbypassrls,
       exists (
         select from pg_class
         where relnamespace = to_regnamespace($1) and pg_has_role(current_user, relowner, 'member')
       ) as owns
     from pg_roles where rolname = current_user`,
    [schemaName],
  );
  const [found] = rows;
  const reason = !found
    ? "is unknown"
    : found.rolsuper
      ? "is a superuser"
      : found.rolbypassrls
        ? "has BYPASSRLS"
        : found.owns
          ? "owns tables"
          : undefined;
  if (reason === undefined) return;
  throw new Error(
    `The service connects as the database role ${found?.role ?? "?"}, which ${reason}: row security would not keep ` +
      "tenants apart. A connection pooler that drops the start-up parameter `options` has this effect, too.",
  );
}
