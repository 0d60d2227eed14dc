import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { toJson } from "@bufbuild/protobuf";
import { sql } from "kysely";
import { Migrator } from "kysely/migration";
import { Client } from "pg";
import { connectionFromUrl } from "../server/src/db/connection.ts";
import { dumpSchema } from "../server/src/db/dump.ts";
import { startEmbedded } from "../server/src/db/embedded.ts";
import { migrate } from "../server/src/db/migrate.ts";
import { migrations } from "../server/src/db/migrations/index.ts";
import { openDatabase } from "../server/src/db/open.ts";
import { ensurePartitions } from "../server/src/db/partitions.ts";
import { assertConfined, createOwnerPool, createPool } from "../server/src/db/pool.ts";
import { findUnprotectedTables } from "../server/src/db/protection.ts";
import { schemaName } from "../server/src/db/roles.ts";
import { classifyDatabaseError } from "../server/src/db/sqlstate.ts";
import { withTenant } from "../server/src/db/tenant.ts";
import { type Event, EventSchema } from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { createEventIds } from "../server/src/ingestion/ids.ts";
import { decodeEntries } from "../server/src/ingestion/rollups/entries.ts";
import { getEvent } from "../server/src/ingestion/store.ts";
import { rowToEvent } from "../server/src/ingestion/stored-event.ts";
import { createTestDatabase, testLogger as logger, type TestDatabase } from "./helpers/database.ts";

const executed = async ({ superuser }: TestDatabase): Promise<string[]> =>
  (await superuser.query("select name from schema_migrations order by name")).rows.map((row) => row.name);

const partitionsOf = async ({ superuser }: TestDatabase, parent: string): Promise<string[]> =>
  (
    await superuser.query(
      "select inhrelid::regclass::text as name from pg_inherits where inhparent = $1::regclass",
      [parent],
    )
  ).rows.map((row) => row.name);

/** Brings an empty database to where an older release left it. */
async function migrateTo(database: TestDatabase, name: string): Promise<void> {
  const { db, close } = createOwnerPool(database.connection("owner"), { logger });
  try {
    const { error } = await new Migrator({
      db,
      provider: { getMigrations: async () => ({ ...migrations }) },
      migrationTableSchema: schemaName,
      migrationTableName: "schema_migrations",
      migrationLockTableName: "schema_migrations_lock",
    }).migrateTo(name);
    if (error) throw error;
  } finally {
    await close();
  }
}

const oldBody = {
  title: "Order",
  source: { service: "shop" },
  context: { region: "eu" },
  metrics: { total: 1.5 },
  payload: { items: [1, "two"] },
};

describe("migrations", () => {
  test("several servers starting at once on a fresh database migrate it once", async () => {
    await using database = await createTestDatabase({ empty: true });
    await Promise.all(Array.from({ length: 5 }, () => migrate(database.connection("owner"), { logger })));
    assert.deepEqual(await executed(database), Object.keys(migrations));
  });

  test("a second run changes nothing", async () => {
    await using database = await createTestDatabase({ empty: true });
    await migrate(database.connection("owner"), { logger });
    const before = await dumpSchema(database.owner.db);
    await migrate(database.connection("owner"), { logger });
    assert.equal(await dumpSchema(database.owner.db), before);
  });

  test("the schema is the committed one, and every table keeps tenants apart", async () => {
    await using database = await createTestDatabase();
    const golden = await readFile(path.join(import.meta.dirname, "../server/schema.sql"), "utf8");
    assert.equal(
      await dumpSchema(database.owner.db),
      golden,
      "after a new migration run: node scripts/schema.ts",
    );
    assert.deepEqual(await findUnprotectedTables(database.owner.db), []);
  });

  test("events that were JSON become bytes, with the same fields, and are known under their ids", async () => {
    await using database = await createTestDatabase({ empty: true });
    await migrateTo(database, "0014_jobs");
    const tenantId = randomUUID();
    const newId = createEventIds();
    // More than are converted at once.
    const rows = Array.from({ length: 1_100 }, (_, index) => ({ id: newId(), eventId: `old ${index}` }));
    await database.superuser.query(
      `insert into events (tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, body)
       select $1, id, event_id, 'order', 'ada', null, 3, 4, '2026-01-02T03:04:05.678Z', $4
       from unnest($2::uuid[], $3::text[]) as t (id, event_id)`,
      [tenantId, rows.map(({ id }) => id), rows.map(({ eventId }) => eventId), oldBody],
    );
    await migrate(database.connection("owner"), { logger });
    const { app } = database;
    for (const { id, eventId } of [rows[0], rows.at(-1)] as typeof rows) {
      const stored = await withTenant(app.db, tenantId, (trx) => getEvent(trx, tenantId, eventId));
      assert.ok(stored, `${eventId} is not found under its id`);
      assert.equal(stored.id, id);
      assert.deepEqual(toJson(EventSchema, rowToEvent(stored).event as Event), {
        eventId,
        eventType: "order",
        title: "Order",
        severity: "SEVERITY_WARNING",
        source: { service: "shop" },
        context: { region: "eu" },
        metrics: { total: 1.5 },
        payload: { items: [1, "two"] },
        userId: "ada",
        timestamp: "2026-01-02T03:04:05.678Z",
        priority: 4,
      });
    }
    const { rows: counted } = await database.superuser.query(
      "select (select count(*)::int from events) as events, (select count(*)::int from event_keys where digest is null) as keys",
    );
    assert.deepEqual(counted, [{ events: rows.length, keys: rows.length }]);
    const { rows: batches } = await database.superuser.query(
      "select sum(events)::int as events, (select count(*)::int from events where source_service = 'shop' and metrics ->> 'total' = '1.5') as filled from event_batches",
    );
    assert.deepEqual(
      batches,
      [{ events: rows.length, filled: rows.length }],
      "and are handed to the workers",
    );
  });

  test("entries of rollups that were columns of int32 are the same in fewer bytes", async () => {
    await using database = await createTestDatabase({ empty: true });
    await migrateTo(database, "0051_progress_plain");
    const columns = [
      [1, 2],
      [7, 0],
      [70_000, -1],
      [1, 300],
      [59_999, 0],
    ];
    await database.superuser.query(
      "insert into event_rollups (tenant_id, level, bucket, summary, entries) values ($1, 0, now(), '{}', $2)",
      [randomUUID(), Buffer.from(Int32Array.from(columns.flat()).buffer)],
    );
    await migrate(database.connection("owner"), { logger });
    const { rows } = await database.superuser.query("select entries from event_rollups");
    const { size, types, users, sessions, counts, lasts } = decodeEntries(rows[0].entries);
    assert.equal(size, 2);
    assert.deepEqual(
      [types, users, sessions, counts, lasts].map((column) => [...column]),
      columns,
    );
    assert.deepEqual(await findUnprotectedTables(database.owner.db), []);
  });

  test("a table without row security is found", async () => {
    await using database = await createTestDatabase();
    await database.owner.pool.query(`
      create table bare (tenant_id uuid);
      create table unforced (tenant_id uuid); alter table unforced enable row level security;
      create table unruled (tenant_id uuid);
      alter table unruled enable row level security; alter table unruled force row level security;
      create view peephole as select * from users;
      grant select on events_default to pulsewire_app`);
    assert.deepEqual(
      (await findUnprotectedTables(database.owner.db)).map((line) => line.split(":")[0]),
      ["bare", "events_default", "peephole", "unforced", "unruled"],
    );
  });

  test("a database of a newer release is refused", async () => {
    await using database = await createTestDatabase();
    await database.superuser.query(`insert into schema_migrations values ('9999_future', now())`);
    await assert.rejects(migrate(database.connection("owner"), { logger }), /newer release/);
  });

  test("a user without the rights is told which are missing", async () => {
    await using database = await createTestDatabase({ empty: true });
    await assert.rejects(migrate(database.connection("app"), { logger }), /needs CREATE on the database/);
  });
});

/** A cluster of its own, for what concerns the roles of the whole cluster. */
async function withCluster(
  fn: (url: (user: string, database: string) => string, superuser: Client) => Promise<void>,
): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-roles-"));
  undo.defer(() => rm(dataDir, { recursive: true, force: true }));
  const embedded = await startEmbedded({ dataDir, logger, durable: false });
  undo.defer(embedded.stop);
  const superuser = new Client(embedded.connection("superuser", "postgres"));
  await superuser.connect();
  undo.defer(() => superuser.end());
  const { host } = embedded.connection("owner");
  await fn(
    (user, database) => `postgres://${user}@${encodeURIComponent(host ?? "")}:5432/${database}`,
    superuser,
  );
}

describe("an outside database", () => {
  test("two databases of one cluster may make the role at the same time", async () => {
    await withCluster(async (url, superuser) => {
      await superuser.query("drop role pulsewire_app");
      await superuser.query("create role admin login createrole createdb");
      const names = ["one", "two", "three"];
      for (const name of names) await superuser.query(`create database ${name} owner admin`);
      await Promise.all(
        names.map((name) =>
          migrate({ connectionString: url("admin", name) }, { logger, serviceUser: "admin" }),
        ),
      );
      for (const name of names) {
        const { pool, close } = createPool({ connectionString: url("admin", name) }, { logger });
        await assertConfined(pool);
        await close();
      }
    });
  });

  test("the service may log in as another user than the owner", async () => {
    await withCluster(async (url, superuser) => {
      await superuser.query("create role outside_owner login createrole; create role outside_service login");
      await superuser.query("grant pulsewire_app to outside_owner with admin option");
      await superuser.query("create database outside owner outside_owner");
      const database = await openDatabase({
        logger,
        dataDir: "/nonexistent",
        databaseUrl: url("outside_service", "outside"),
        migrationDatabaseUrl: url("outside_owner", "outside"),
      });
      const { rows } = await database.pool.query("select session_user, current_user");
      assert.deepEqual(rows, [{ session_user: "outside_service", current_user: "pulsewire_app" }]);
      await database.close();
    });
  });
});

describe("the service's role", () => {
  test("an unconfined role is refused", async () => {
    await using database = await createTestDatabase();
    await assert.doesNotReject(assertConfined(database.app.pool));
    await assert.rejects(assertConfined(database.owner.pool), /pulsewire_owner, which owns tables/);
    await assert.rejects(assertConfined(database.superuser), /postgres, which is a superuser/);
  });

  test("a lost connection, idle or lent, does not end the process", async () => {
    await using database = await createTestDatabase();
    const { pool } = database.app;
    const lent = await pool.connect();
    await (await pool.connect()).release();
    await database.superuser.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'pulsewire_app'",
    );
    await assert.rejects(lent.query("select 1"));
    lent.release();
    while (pool.totalCount > 0) await sleep(5);
    assert.equal((await pool.query("select 1")).rowCount, 1);
  });
});

describe("errors", () => {
  test("are classified by what they mean", async () => {
    await using database = await createTestDatabase();
    const { pool } = database.app;
    const kindOf = async (statement: string) => {
      const error = await pool.query(statement).catch((error) => error);
      return classifyDatabaseError(new Error("wrapped", { cause: error }))?.kind;
    };
    const raise = (state: string) => `do $$ begin raise sqlstate '${state}'; end $$`;
    assert.equal(await kindOf("set statement_timeout = 10; select pg_sleep(5)"), "timeout");
    assert.equal(await kindOf("select 'x'::uuid"), "invalid");
    assert.equal(
      await kindOf("insert into signing_keys select 'k', '', '{}', '', now() from generate_series(1, 2)"),
      "conflict",
    );
    assert.equal(await kindOf("create table mine ()"), "internal");
    assert.equal(await kindOf("select pg_terminate_backend(pg_backend_pid())"), "unavailable");
    for (const [state, kind] of [
      ["40001", "retry"],
      ["40P01", "retry"],
      ["53100", "exhausted"],
      ["53300", "exhausted"],
      ["57P03", "unavailable"],
      ["08006", "unavailable"],
      ["23503", "precondition"],
      ["22999", "invalid"],
      ["XX001", "internal"],
    ] as const) {
      assert.equal(await kindOf(raise(state)), kind, state);
    }
    assert.equal(classifyDatabaseError(new Error("something else")), undefined);
    assert.equal(classifyDatabaseError(Object.assign(new Error("no file"), { code: "ENOENT" })), undefined);
  });

  test("an unreachable database is unavailable, whatever is missing", async () => {
    for (const connection of [
      { host: "/nonexistent", user: "x", database: "x" },
      { host: "127.0.0.1", port: 1, user: "x", database: "x" },
    ]) {
      const { pool, close } = createPool(connection, { logger });
      const error = await pool.query("select 1").catch((error) => error);
      assert.equal(classifyDatabaseError(error)?.kind, "unavailable", String(error));
      await close();
      const ended = await pool.query("select 1").catch((error) => error);
      assert.equal(classifyDatabaseError(ended)?.kind, "unavailable", String(ended));
    }
  });

  test("a pool without a free connection is unavailable, not stuck", async () => {
    await using database = await createTestDatabase();
    const { pool, close } = createPool(database.connection("app"), {
      logger,
      limits: { maxConnections: 1, connectTimeoutMs: 500 },
    });
    const lent = await pool.connect();
    const error = await pool.query("select 1").catch((error) => error);
    assert.equal(classifyDatabaseError(error)?.kind, "unavailable", String(error));
    lent.release();
    await close();
  });

  test("a URL is checked without being repeated", () => {
    for (const url of ["secret", "mysql://u:secret@h/d", ""]) {
      assert.throws(
        () => connectionFromUrl(url),
        (error: Error) => !error.message.includes("secret"),
      );
    }
  });
});

describe("partitions", () => {
  test("cover the reach, once, however many processes ask", async () => {
    await using database = await createTestDatabase({ empty: true });
    await migrate(database.connection("owner"), { logger });
    const now = new Date("2026-11-25T12:00:00Z"); // a Wednesday
    const made = await Promise.all(Array.from({ length: 4 }, () => ensurePartitions(database.app.db, now)));
    assert.equal(
      made.reduce((sum, count) => sum + count),
      9 + 4,
    );
    const events = (await partitionsOf(database, "events")).sort();
    assert.deepEqual([events[0], events.at(-2)], ["events_20261124", "events_20261202"]);
    assert.equal(await ensurePartitions(database.app.db, now), 0);
    assert.deepEqual(await findUnprotectedTables(database.owner.db), []);
  });

  test("rows beyond the reach are kept, and move when their partition comes", async () => {
    await using database = await createTestDatabase();
    const { db } = database.app;
    const later = new Date(Date.UTC(2040, 5, 15, 23, 59, 59, 999));
    const hex = later.getTime().toString(16).padStart(12, "0");
    const id = `${hex.slice(0, 8)}-${hex.slice(8)}-7fff-bfff-ffffffffffff`;
    const tenant = randomUUID();
    await withTenant(db, tenant, async (trx) => {
      await trx
        .insertInto("events")
        .values({
          tenant_id: tenant,
          id,
          event_id: "e",
          event_type: "t",
          user_id: null,
          session_id: null,
          severity: 0,
          priority: 0,
          occurred_at: later,
          encoded: Buffer.alloc(0),
        })
        .execute();
    });
    const places = async () =>
      withTenant(db, tenant, async (trx) => {
        const { rows } = await sql<{ place: string }>`
          select tableoid::regclass::text as place from events`.execute(trx);
        return rows.map((row) => row.place);
      });
    assert.deepEqual(await places(), ["events_default"]);
    await ensurePartitions(db, later);
    assert.deepEqual(await places(), ["events_20400615"]);
    assert.deepEqual(await findUnprotectedTables(database.owner.db), []);
  });

  test("the service can make those and no other tables", async () => {
    await using database = await createTestDatabase();
    const { pool } = database.app;
    await assert.rejects(pool.query("create table mine ()"), /permission denied/);
    for (const [parent, to] of [
      ["users", "2026-01-01"],
      ["events; drop table users", "2026-01-01"],
      ["events", "2036-01-01"],
    ]) {
      await assert.rejects(
        pool.query("select ensure_partitions($1, '2026-01-01', $2)", [parent, to]),
        /no partitioned table|too many partitions/,
      );
    }
  });

  test("a pool of the owner is confined by forced row security, too", async () => {
    await using database = await createTestDatabase();
    const { db, close } = createOwnerPool(database.connection("owner"), { logger });
    const tenant = randomUUID();
    await withTenant(database.app.db, tenant, (trx) =>
      trx
        .insertInto("tenants")
        .values({ id: tenant, slug: "a", name: "A", contact_email: "a@example.com" })
        .execute(),
    );
    assert.deepEqual(await db.selectFrom("tenants").selectAll().execute(), []);
    await close();
  });
});
