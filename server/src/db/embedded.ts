import { mkdir, realpath } from "node:fs/promises";
import path from "node:path";
import type { ClientConfig } from "pg";
import type { Logger } from "pino";
import { chooseAccount } from "./embedded/account.ts";
import { findBinaries } from "./embedded/binaries.ts";
import { bootstrap, databaseName } from "./embedded/bootstrap.ts";
import { pgdataIn, prepareCluster, superuser } from "./embedded/cluster.ts";
import { explainFileError } from "./embedded/errors.ts";
import { lockDataDir } from "./embedded/lock.ts";
import { waitForOrphan } from "./embedded/orphan.ts";
import { type Exit, startPostmaster } from "./embedded/postmaster.ts";
import { removeServerFile, writeServerFile } from "./embedded/server-file.ts";
import { makeSocketFolder } from "./embedded/socket-folder.ts";
import { appRole, ownerRole } from "./roles.ts";

export { EmbeddedDatabaseError, type EmbeddedDatabaseErrorCode } from "./embedded/errors.ts";
export type { Exit } from "./embedded/postmaster.ts";
export {
  readServerFile,
  removeServerFile,
  type ServerFile,
  writeServerFile,
} from "./embedded/server-file.ts";

/** How to start the embedded database. */
export interface EmbeddedOptions {
  /** Folder for everything of this database; made if absent. */
  readonly dataDir: string;
  readonly logger: Logger;
  /** Gives up a start that is under way. A running database is ended with `stop()`. */
  readonly signal?: AbortSignal;
  /** False skips every fsync: faster, and a power cut may lose all data. For tests only. Default true. */
  readonly durable?: boolean;
  /** PostgreSQL settings that override the built-in ones. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

/** A running embedded PostgreSQL. */
export interface EmbeddedDatabase {
  /** The data folder's real path. */
  readonly dataDir: string;
  /** Process id of PostgreSQL. */
  readonly pid: number;
  /** How to connect. Plain data, so that it can be passed on to other processes. */
  connection(role: "owner" | "app" | "superuser", database?: string): ClientConfig;
  /** Ends it in good order, by force when that takes too long. May be called again. */
  stop(): Promise<void>;
  /** Settles when PostgreSQL has ended; never rejects. When unexpected, the server has no database any more. */
  readonly exited: Promise<Exit>;
}

const users = { owner: ownerRole, app: appRole, superuser };

/**
 * Starts a real PostgreSQL in a folder, reachable through a Unix socket only. The first start makes the cluster, the
 * roles and the database. It ends with this process, however this process ends.
 * Throws `EmbeddedDatabaseError`, whose message says what to do.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedDatabase> {
  const dataDir = await makeDataDir(options.dataDir);
  const pgdata = pgdataIn(dataDir);
  await using undo = new AsyncDisposableStack();
  try {
    undo.defer(lockDataDir(dataDir));
    writeServerFile(dataDir, { pid: process.pid, endpoint: null });
    undo.defer(() => removeServerFile(dataDir));

    const durable = options.durable ?? true;
    const binaries = await findBinaries();
    const account = chooseAccount(pgdata);
    await prepareCluster({ dataDir, binaries, account, durable });
    options.signal?.throwIfAborted();
    await waitForOrphan(pgdata, options.signal);

    const socketFolder = await makeSocketFolder(dataDir, account);
    undo.defer(socketFolder.remove);
    const postmaster = await startPostmaster({
      postgres: binaries.postgres,
      pgdata,
      socketFolder: socketFolder.path,
      account,
      logger: options.logger,
      settings: { fsync: durable ? "on" : "off", ...options.settings },
      signal: options.signal,
    });
    undo.defer(postmaster.stop);
    const connection: EmbeddedDatabase["connection"] = (role, database = databaseName) => ({
      host: socketFolder.path,
      port: 5432,
      user: users[role],
      database,
      ssl: false,
    });
    await bootstrap(connection("superuser", "postgres"));
    options.signal?.throwIfAborted();

    const running = undo.move();
    return {
      dataDir,
      pid: postmaster.pid,
      connection,
      stop: () => running.disposeAsync(),
      exited: postmaster.exited,
    };
  } catch (error) {
    throw explainFileError(dataDir, error);
  }
}

async function makeDataDir(dataDir: string): Promise<string> {
  const absolute = path.resolve(dataDir);
  try {
    await mkdir(absolute, { recursive: true, mode: 0o700 });
    return await realpath(absolute);
  } catch (error) {
    throw explainFileError(absolute, error);
  }
}
