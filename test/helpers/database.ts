import { randomBytes } from "node:crypto";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, type ClientConfig, Pool } from "pg";
import { createOwnerPool, createPool, type DatabasePool } from "../../server/src/db/pool.ts";
import { type OwnCluster, startTestCluster, type TestCluster, testLogger } from "./cluster.ts";

export { testLogger } from "./cluster.ts";

/** Set by the global set-up: where the cluster for all test files is. */
export const clusterVariable = "PULSEWIRE_TEST_CLUSTER";

/** A fresh database of one's own. Pools connect on first use. */
export interface TestDatabase extends AsyncDisposable {
  readonly name: string;
  /** For a pool or client of the test's own, which the test must end before `drop()`. */
  connection(role: "owner" | "app" | "superuser"): ClientConfig;
  /** The service's pool: bound by row security. */
  readonly app: DatabasePool;
  /** The owner of the tables: bound by row security, too. */
  readonly owner: DatabasePool;
  /** Sees everything: for counting what is really there. */
  readonly superuser: Pool;
  /** Ends the pools and drops the database. Throws when a connection was leaked, and names it. */
  drop(): Promise<void>;
}

/** Clones the migrated template, or, with `empty`, makes a database without any of our objects. */
export async function createTestDatabase(options: { empty?: boolean } = {}): Promise<TestDatabase> {
  const cluster = await findCluster();
  const name = `test_${randomBytes(8).toString("hex")}`;
  const template = options.empty ? "template1" : cluster.template;
  await administer(cluster, `create database ${name} template ${template} owner ${cluster.owner.user}`);

  const connection: TestDatabase["connection"] = (role) => ({ ...cluster[role], database: name });
  const app = createPool(connection("app"), { logger: testLogger });
  const owner = createOwnerPool(connection("owner"), { logger: testLogger });
  const superuser = new Pool({ ...connection("superuser"), max: 2, options: "-c search_path=pulsewire" });
  superuser.on("error", () => {});

  let dropped: Promise<void> | undefined;
  const drop = () => {
    dropped ??= dropDatabase(cluster, name, { app: app.pool, owner: owner.pool, superuser }).finally(() => {
      open.delete(name);
      return stopOwnCluster();
    });
    return dropped;
  };
  open.set(name, drop);
  return { name, connection, app, owner, superuser, drop, [Symbol.asyncDispose]: drop };
}

async function dropDatabase(cluster: TestCluster, name: string, pools: Record<string, Pool>): Promise<void> {
  const leaks: string[] = [];
  for (const [label, pool] of Object.entries(pools)) {
    if (await isIdle(pool)) {
      if (!pool.ending) await pool.end();
    } else {
      leaks.push(`the pool "${label}" never got back ${pool.totalCount - pool.idleCount} connection(s)`);
    }
  }
  // Without FORCE PostgreSQL refuses while anyone is connected, and waits some seconds for those about to leave.
  await administer(cluster, `drop database ${name}`).catch(async (error: Error) => {
    leaks.push(...(await listConnections(cluster, name)), error.message);
    await administer(cluster, `drop database if exists ${name} with (force)`);
  });
  if (leaks.length > 0) throw new Error(`Connections to ${name} were leaked:\n${leaks.join("\n")}`);
}

/** A connection that was returned in the same tick is counted a little later. */
async function isIdle(pool: Pool): Promise<boolean> {
  for (let attempt = 0; attempt < 50; attempt++) {
    if (pool.totalCount === pool.idleCount) return true;
    await sleep(20);
  }
  return false;
}

async function listConnections(cluster: TestCluster, name: string): Promise<string[]> {
  const rows = await administer(
    cluster,
    `select application_name || ' as ' || usename || ', ' || coalesce(state, '?') || ': ' || left(query, 200) as line
     from pg_stat_activity where datname = '${name}'`,
  );
  return rows.map((row) => row.line);
}

async function administer(cluster: TestCluster, statement: string): Promise<{ line: string }[]> {
  const client = new Client({ ...cluster.superuser, database: "postgres" });
  await client.connect();
  try {
    return (await client.query<{ line: string }>(statement)).rows;
  } finally {
    await client.end();
  }
}

let own: Promise<OwnCluster> | undefined;
const open = new Map<string, () => Promise<void>>();
let testsAreOver = false;

/** A file that is run by hand has no global set-up: it starts a cluster of its own. */
async function findCluster(): Promise<TestCluster> {
  const given = process.env[clusterVariable];
  if (given !== undefined) return JSON.parse(given);
  own ??= startTestCluster();
  return own;
}

/** Hooks run in the order of their registration, so the file's own, which drop databases, come after this one. */
async function stopOwnCluster(): Promise<void> {
  if (testsAreOver && open.size === 0) await (await own)?.stop();
}

after(async () => {
  testsAreOver = true;
  await stopOwnCluster();
  setTimeout(dropForgotten, 5_000).unref();
});

/** A database that a test never drops must neither go unnoticed nor keep the process alive with its pools. */
function dropForgotten(): void {
  for (const [name, drop] of open) {
    console.error(`The test database ${name} was never dropped`);
    process.exitCode = 1;
    drop().catch(console.error);
  }
}
