import type { ClientConfig } from "pg";
import type { Logger } from "pino";
import { connectionFromUrl } from "./connection.ts";
import { type EmbeddedDatabase, startEmbedded } from "./embedded.ts";
import type { DatabaseLimits } from "./limits.ts";
import { migrate } from "./migrate.ts";
import { ensurePartitions } from "./partitions.ts";
import { assertConfined, createPool, type DatabasePool } from "./pool.ts";

export interface OpenOptions {
  readonly logger: Logger;
  /** An outside PostgreSQL. Without it the embedded one is started in `dataDir`. */
  readonly databaseUrl?: string | undefined;
  /** The owner's way to the outside database, when `databaseUrl` is not the owner's. */
  readonly migrationDatabaseUrl?: string | undefined;
  readonly dataDir: string;
  readonly limits?: Partial<DatabaseLimits>;
  readonly signal?: AbortSignal;
}

/** A migrated database, ready to serve. */
export interface OpenDatabase extends DatabasePool {
  /** For further pools and clients, in this process or another; see `createPool` and `serviceConnection`. */
  readonly connection: ClientConfig;
  /** Absent on an outside database. */
  readonly embedded?: EmbeddedDatabase;
  /** Ends the pool and then the embedded database. */
  close(): Promise<void>;
}

/**
 * Everything between settings and a database that serves: start or find it, migrate it, make its partitions, connect
 * as the confined role and verify that. Leaves nothing running when it throws.
 */
export async function openDatabase(options: OpenOptions): Promise<OpenDatabase> {
  const { logger, databaseUrl, migrationDatabaseUrl, dataDir, limits = {}, signal } = options;
  await using undo = new AsyncDisposableStack();

  let embedded: EmbeddedDatabase | undefined;
  let connection: ClientConfig;
  if (databaseUrl === undefined) {
    embedded = await startEmbedded({ dataDir, logger, ...(signal && { signal }) });
    undo.defer(embedded.stop);
    connection = embedded.connection("app");
    await migrate(embedded.connection("owner"), { logger });
  } else {
    connection = connectionFromUrl(databaseUrl);
    const owner = migrationDatabaseUrl === undefined ? connection : connectionFromUrl(migrationDatabaseUrl);
    await migrate(owner, { logger, serviceUser: userOf(databaseUrl) });
  }
  signal?.throwIfAborted();

  const { pool, db, close } = createPool(connection, { logger, limits });
  undo.defer(close);
  await assertConfined(pool);
  await ensurePartitions(db, new Date());

  const running = undo.move();
  return { pool, db, connection, ...(embedded && { embedded }), close: () => running.disposeAsync() };
}

/** node-postgres takes a URL without a user for the current one of the system or PGUSER; then the owner is assumed. */
function userOf(url: string): string | undefined {
  return decodeURIComponent(new URL(url).username) || undefined;
}
