import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Client, type ClientConfig } from "pg";
import { pino } from "pino";
import { startEmbedded } from "../../server/src/db/embedded.ts";
import { migrate } from "../../server/src/db/migrate.ts";
import { ensurePartitions } from "../../server/src/db/partitions.ts";
import { createOwnerPool } from "../../server/src/db/pool.ts";

/** Where the cluster for tests is. Plain data: it reaches the test processes through their environment. */
export interface TestCluster {
  /** A migrated database that nobody may connect to. */
  readonly template: string;
  readonly owner: ClientConfig;
  readonly app: ClientConfig;
  readonly superuser: ClientConfig;
}

export interface OwnCluster extends TestCluster {
  stop(): Promise<void>;
}

/** For code under test that wants a logger. Set LOG_LEVEL to see it. */
export const testLogger = pino({ level: process.env.LOG_LEVEL ?? "silent" });

/** Starts a throw-away cluster in a temporary folder and migrates its template. */
export async function startTestCluster(): Promise<OwnCluster> {
  await using undo = new AsyncDisposableStack();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-test-"));
  undo.defer(() => rm(dataDir, { recursive: true, force: true }));
  const embedded = await startEmbedded({
    dataDir,
    logger: testLogger,
    durable: false,
    settings: { max_connections: 400, shared_buffers: "128MB" },
  });
  undo.defer(embedded.stop);

  const owner = embedded.connection("owner");
  await migrate(owner, { logger: testLogger });
  const { db, close } = createOwnerPool(owner, { logger: testLogger });
  await ensurePartitions(db, new Date());
  await close();
  await closeTemplate(embedded.connection("superuser", "postgres"), owner.database as string);

  const running = undo.move();
  return {
    template: owner.database as string,
    owner,
    app: embedded.connection("app"),
    superuser: embedded.connection("superuser"),
    stop: () => running.disposeAsync(),
  };
}

/** A connection to the template, even an idle one, would make cloning it fail. */
async function closeTemplate(superuser: ClientConfig, template: string): Promise<void> {
  const client = new Client(superuser);
  await client.connect();
  await client.query(`alter database ${template} is_template true allow_connections false`);
  await client.end();
}
