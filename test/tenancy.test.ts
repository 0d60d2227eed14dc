import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { sql } from "kysely";
import { Client, type ClientBase, type ClientConfig } from "pg";
import { ownerConnection, serviceConnection } from "../server/src/db/connection.ts";
import { createPool } from "../server/src/db/pool.ts";
import { globalTables } from "../server/src/db/protection.ts";
import { withLookup, withPlatform, withTenant, withTenants, withWorker } from "../server/src/db/tenant.ts";
import { createTestDatabase, type TestDatabase, testLogger } from "./helpers/database.ts";
import { partitionDay, tenantRows } from "./helpers/tenant-rows.ts";

/** Whose rows are attacked. */
const victim = randomUUID();
/** A tenant without a row: whatever it sees is not its own. */
const stranger = randomUUID();
const slug = "victim";
const keyHash = createHash("sha256").update("secret").digest();

const set = (setting: string, value: string) =>
  `set_config('pulsewire.${setting}', '${value.replaceAll("'", "''")}', true)`;
const asTenant = (id: string) => `select ${set("tenant_id", id)}`;

/** What an attacker may have set before the statement. None of it may open anything. */
const attacks: Record<string, string[]> = {
  "wrong tenant": [asTenant(stranger)],
  "no tenant": [],
  "empty tenant": [asTenant("")],
  "malformed tenant": [asTenant("' or true --")],
  "tenant in another case of the setting's name": [`set local pulsewire.tenant = '${victim}'`],
  "wrong key": [`select ${set("lookup_key_hash", "00".repeat(32))}`],
  "empty key": [`select ${set("lookup_key_hash", "")}`],
  "malformed key": [`select ${set("lookup_key_hash", "xyz")}`],
  "wrong slug": [`select ${set("lookup_slug", "other")}`],
  "empty slug": [`select ${set("lookup_slug", "")}`],
  "pattern for a slug": [`select ${set("lookup_slug", "%")}`],
  "wrong address": [`select ${set("lookup_email", "stranger@example.com")}`],
  "empty address": [`select ${set("lookup_email", "")}`],
  "pattern for an address": [`select ${set("lookup_email", "%")}`],
  "empty word for the platform": [`select ${set("platform_admin", "")}`],
  "wrong word for the platform": [`select ${set("platform_admin", "true")}`],
  "word for the platform in another case": [`select ${set("platform_admin", "ON")}`],
  "empty word for the worker": [`select ${set("worker", "")}`],
  "wrong word for the worker": [`select ${set("worker", "true")}`],
  "reset role": ["reset role"],
  "set role none": ["set role none"],
  "set role to the owner": ["set role pulsewire_owner"],
  "set role to the superuser": ["set role postgres"],
  "set session authorization": ["set session authorization pulsewire_owner"],
  "row security switched off": ["set local row_security = off"],
  "wrong tenant and row security switched off": [asTenant(stranger), "set local row_security = off"],
};

interface Table {
  name: string;
  /** The table itself, or the one it is a partition of. */
  parent: string;
  tenantColumn: string;
}

let database: TestDatabase;
let tables: Table[];

before(async () => {
  database = await createTestDatabase();
  const { rows } = await database.superuser.query<{ name: string; parent: string; partitioned: boolean }>(
    `select relname as name, coalesce(inhparent::regclass::text, relname) as parent
     from pg_class left join pg_inherits on inhrelid = oid
     where relnamespace = 'pulsewire'::regnamespace and relkind in ('r', 'p', 'f', 'v', 'm') order by 1`,
  );
  tables = rows
    .filter(({ name }) => !globalTables.includes(name))
    .map(({ name, parent }) => ({ name, parent, tenantColumn: parent === "tenants" ? "id" : "tenant_id" }));
  const order = Object.keys(tenantRows(victim, slug, keyHash));
  for (const parent of order) await insertAsSuperuser(parent);
});
after(() => database.drop());

async function insertAsSuperuser(parent: string): Promise<void> {
  for (const row of tenantRows(victim, slug, keyHash)[parent] ?? []) {
    await database.superuser.query(...insertStatement(parent, row));
  }
}

function insertStatement(table: string, row: Record<string, unknown>): [string, unknown[]] {
  const columns = Object.keys(row);
  const places = columns.map((_, index) => `$${index + 1}`);
  return [`insert into ${table} (${columns.join()}) values (${places.join()})`, Object.values(row)];
}

/** Everything that is really in a table. */
async function fingerprint(table: string): Promise<string> {
  const { rows } = await database.superuser.query(
    `select count(*) || ':' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '') as print from ${table} t`,
  );
  return rows[0].print;
}

/** Runs statements in one transaction and commits. The rows of the last one, or undefined where PostgreSQL refused. */
async function attempt(
  client: ClientBase,
  preparation: string[],
  statement: [string, unknown[]],
): Promise<{ rows: unknown[]; rowCount: number | null } | undefined> {
  await client.query("begin");
  try {
    for (const text of preparation) await client.query(text);
    const result = await client.query(...statement);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    // Only a refusal by PostgreSQL counts as one; a slip of the test must not.
    const code = (error as { code?: string }).code;
    assert.ok(refusals.has(code ?? ""), `${statement[0]}: ${code} ${(error as Error).message}`);
    return undefined;
  } finally {
    await client.query("reset role; reset session authorization");
  }
}

/** Missing right or row security; a setting that cannot be read as uuid or bytea; row_security = off. */
const refusals = new Set(["42501", "22P02", "22023"]);

describe("tenancy", () => {
  test("every table has rows to attack", () => {
    const known = new Set(Object.keys(tenantRows(victim, slug, keyHash)));
    const parents = new Set(tables.map(({ parent }) => parent));
    assert.deepEqual([...parents].sort(), [...known].sort(), "add rows for it to helpers/tenant-rows.ts");
    assert.ok(tables.some(({ name }) => name === `events_${partitionDay}`));
  });

  test("the right tenant sees, changes and deletes its rows", async () => {
    const client = new Client(serviceConnection(database.connection("app")));
    await client.connect();
    for (const { name, parent, tenantColumn } of tables.filter((table) => table.name === table.parent)) {
      const rows = tenantRows(victim, slug, keyHash)[parent] ?? [];
      const { rows: granted } = await client.query<{ right: string }>(
        "select r as right from unnest(array['select', 'insert', 'update', 'delete']) r where has_table_privilege($1, r)",
        [name],
      );
      const may = (right: string) => granted.some((row) => row.right === right);
      assert.ok(may("select") && may("insert"), name);
      await client.query("begin");
      await client.query(asTenant(victim));
      assert.equal((await client.query(`select from ${name}`)).rowCount, rows.length, name);
      if (may("update")) {
        const { rowCount } = await client.query(`update ${name} set ${tenantColumn} = ${tenantColumn}`);
        assert.equal(rowCount, rows.length, name);
      }
      if (may("delete")) {
        assert.equal((await client.query(`delete from ${name}`)).rowCount, rows.length, name);
        for (const row of rows) await client.query(...insertStatement(name, row));
      }
      await client.query("rollback");
    }
    await client.end();
  });

  for (const role of ["app", "owner"] as const) {
    for (const [attack, preparation] of Object.entries(attacks)) {
      // An owner may change its role; its tables bind it all the same.
      if (role === "owner" && /role|authorization/.test(attack)) continue;
      test(`${role}, ${attack}: nothing is seen, nothing changes`, () => {
        const connect = role === "app" ? serviceConnection : ownerConnection;
        return attackAll(connect(database.connection(role)), preparation);
      });
    }
  }

  test("the start-up role stands when the login could do more", () =>
    attackAll(serviceConnection(database.connection("superuser")), ["reset role"]));
});

async function attackAll(connection: ClientConfig, preparation: string[]): Promise<void> {
  const client = new Client(connection);
  await client.connect();
  try {
    for (const table of tables) await attackTable(client, table, preparation);
  } finally {
    await client.end();
  }
}

async function attackTable(
  client: ClientBase,
  { name, parent, tenantColumn }: Table,
  preparation: string[],
): Promise<void> {
  const before = await fingerprint(name);
  const statements: [string, unknown[]][] = [
    [`select * from ${name}`, []],
    [`select * from ${name} where ${tenantColumn} = $1`, [victim]],
    [`update ${name} set ${tenantColumn} = ${tenantColumn}`, []],
    [`update ${name} set ${tenantColumn} = $1`, [stranger]],
    [`delete from ${name}`, []],
    ...(tenantRows(victim, "fresh", randomHash())[parent] ?? []).map((row) =>
      insertStatement(name, parent === "tenants" ? { ...row, id: randomUUID() } : freshIds(row)),
    ),
  ];
  for (const statement of statements) {
    const result = await attempt(client, preparation, statement);
    assert.equal(result?.rowCount ?? 0, 0, `${name}: ${statement[0]}`);
  }
  assert.equal(await fingerprint(name), before, name);
}

const randomHash = () => createHash("sha256").update(randomUUID()).digest();

/** New keys, so that it is row security that refuses a row, and not a unique index. */
function freshIds(row: Record<string, unknown>): Record<string, unknown> {
  const fresh = { ...row };
  for (const column of ["id", "key", "series_id"]) if (column in fresh) fresh[column] = randomUUID();
  if ("email" in fresh) fresh.email = `${randomUUID()}@example.com`;
  if ("name" in fresh) fresh.name = randomUUID();
  return fresh;
}

describe("lookups", () => {
  test("the secret shows one key, and no other table", async () => {
    const { db } = database.app;
    await withLookup(db, { apiKeyHash: keyHash }, async (trx) => {
      const keys = await trx.selectFrom("api_keys").select("tenant_id").execute();
      assert.deepEqual(keys, [{ tenant_id: victim }]);
      for (const { name, parent } of tables) {
        if (name !== parent || name === "api_keys") continue;
        assert.deepEqual((await sql`select from ${sql.table(name)}`.execute(trx)).rows, [], name);
      }
    });
    await withLookup(db, { apiKeyHash: new Uint8Array() }, async (trx) => {
      assert.deepEqual(await trx.selectFrom("api_keys").selectAll().execute(), []);
    });
  });

  test("the slug shows one tenant, and no other table", async () => {
    const { db } = database.app;
    await withLookup(db, { tenantSlug: slug }, async (trx) => {
      assert.deepEqual(await trx.selectFrom("tenants").select("id").execute(), [{ id: victim }]);
      for (const { name, parent } of tables) {
        if (name !== parent || name === "tenants") continue;
        assert.deepEqual((await sql`select from ${sql.table(name)}`.execute(trx)).rows, [], name);
      }
    });
    for (const tenantSlug of ["", "%", "other"]) {
      await withLookup(db, { tenantSlug }, async (trx) => {
        assert.deepEqual(await trx.selectFrom("tenants").selectAll().execute(), []);
      });
    }
  });

  test("the address shows its users in all tenants, and no other table", async () => {
    const { db } = database.app;
    const email = "victim@example.com";
    await withLookup(db, { email }, async (trx) => {
      const users = await trx.selectFrom("users").select(["tenant_id", "email"]).execute();
      assert.deepEqual(users, [{ tenant_id: victim, email }]);
      for (const { name, parent } of tables) {
        if (name !== parent || name === "users") continue;
        assert.deepEqual((await sql`select from ${sql.table(name)}`.execute(trx)).rows, [], name);
      }
    });
    for (const other of ["", "%", "stranger@example.com", "Victim@example.com"]) {
      await withLookup(db, { email: other }, async (trx) => {
        assert.deepEqual(await trx.selectFrom("users").selectAll().execute(), []);
      });
    }
  });

  test("what was looked up cannot be changed", async () => {
    const { db } = database.app;
    await withLookup(db, { email: "victim@example.com" }, async (trx) => {
      const changed = await trx.updateTable("users").set({ role: "VIEWER" }).executeTakeFirstOrThrow();
      const deleted = await trx.deleteFrom("users").executeTakeFirstOrThrow();
      assert.deepEqual([changed.numUpdatedRows, deleted.numDeletedRows], [0n, 0n]);
    });
    await withLookup(db, { apiKeyHash: keyHash }, async (trx) => {
      const { numUpdatedRows } = await trx
        .updateTable("api_keys")
        .set({ name: "mine" })
        .executeTakeFirstOrThrow();
      assert.equal(numUpdatedRows, 0n);
    });
    await withLookup(db, { tenantSlug: slug }, async (trx) => {
      const { numUpdatedRows } = await trx
        .updateTable("tenants")
        .set({ name: "mine" })
        .executeTakeFirstOrThrow();
      assert.equal(numUpdatedRows, 0n);
    });
  });
});

describe("the platform", () => {
  test("shows all tenants, and no other table", async () => {
    await withPlatform(database.app.db, async (trx) => {
      const tenants = await trx.selectFrom("tenants").select("id").execute();
      assert.ok(tenants.some(({ id }) => id === victim));
      for (const { name, parent } of tables) {
        if (name !== parent || name === "tenants") continue;
        assert.deepEqual((await sql`select from ${sql.table(name)}`.execute(trx)).rows, [], name);
      }
    });
  });

  test("changes nothing, deletes nothing and makes nothing", async () => {
    const { db } = database.app;
    const before = await fingerprint("tenants");
    await withPlatform(db, async (trx) => {
      const { numUpdatedRows } = await trx
        .updateTable("tenants")
        .set({ name: "mine" })
        .executeTakeFirstOrThrow();
      assert.equal(numUpdatedRows, 0n);
    });
    await assert.rejects(
      withPlatform(db, (trx) => trx.deleteFrom("tenants").execute()),
      { code: "42501" },
    );
    const id = randomUUID();
    const made = withPlatform(db, (trx) =>
      trx.insertInto("tenants").values({ id, slug: id, name: id, contact_email: id }).execute(),
    );
    await assert.rejects(made, { code: "42501" });
    assert.equal(await fingerprint("tenants"), before);
  });

  test("is over with the transaction", async () => {
    const { db, close } = createPool(database.connection("app"), {
      logger: testLogger,
      limits: { maxConnections: 1 },
    });
    await withPlatform(db, (trx) => trx.selectFrom("tenants").select("id").execute());
    assert.deepEqual(await db.selectFrom("tenants").select("id").execute(), []);
    await close();
  });
});

describe("a worker", () => {
  const isQueue = async (name: string) => {
    const { rowCount } = await database.superuser.query(
      "select from pg_policy where polrelid = to_regclass($1) and polname = 'worker_reads'",
      [name],
    );
    return (rowCount ?? 0) > 0;
  };

  test("sees the queues of all tenants, and no other table", async () => {
    await withWorker(database.app.db, async (trx) => {
      for (const { name, parent } of tables) {
        if (name !== parent) continue;
        const { rows } = await sql`select from ${sql.table(name)}`.execute(trx);
        const expected = (await isQueue(name)) ? (tenantRows(victim, slug, keyHash)[name]?.length ?? 0) : 0;
        assert.equal(rows.length, expected, name);
      }
    });
  });

  test("makes no rows, and enters a tenant to see its own", async () => {
    const { db } = database.app;
    const made = withWorker(db, (trx) =>
      trx
        .insertInto("webhook_events")
        .values({ tenant_id: victim, id: randomUUID(), type: "function.created", data: "{}" })
        .execute(),
    );
    await assert.rejects(made, { code: "42501" });
    await withWorker(db, async (_, enter) => {
      const trx = await enter(victim);
      assert.equal((await trx.selectFrom("users").select("id").execute()).length, 1);
    });
  });
});

describe("withTenant", () => {
  const countUsers = sql<{ count: bigint }>`select count(*) as count from users`;

  test("leaves nothing to the next user of the connection", async () => {
    // One connection, so that the next user gets the same.
    const { pool, db, close } = createPool(database.connection("app"), {
      logger: testLogger,
      limits: { maxConnections: 1 },
    });
    const isClosed = async () => {
      assert.equal((await countUsers.execute(db)).rows[0]?.count, 0n);
      const { rows } = await pool.query("select current_setting('pulsewire.tenant_id', true) as id");
      assert.ok(!rows[0].id);
    };
    await withTenant(db, victim, async (trx) => {
      assert.equal((await countUsers.execute(trx)).rows[0]?.count, 1n);
    });
    await isClosed();
    await assert.rejects(
      withTenant(db, victim, async () => {
        throw new Error("mine");
      }),
      /mine/,
    );
    await isClosed();
    await assert.rejects(
      withTenant(db, victim, (trx) => sql`select 1 / 0`.execute(trx)),
      /division by zero/,
    );
    await isClosed();
    await close();
  });

  test("refuses what is no uuid before it asks the database", () => {
    for (const id of ["", "x", `${victim}'`, `${victim}\n`, `{${victim}}`]) {
      assert.throws(() => withTenant(database.app.db, id, async () => {}), TypeError);
    }
  });

  test("rolls back and runs again after a deadlock or serialization failure, a bounded number of times", async () => {
    for (const state of ["40001", "40P01"]) {
      let runs = 0;
      const result = await withTenant(database.app.db, victim, async (trx) => {
        runs++;
        if (runs < 3) await sql`do ${sql.lit(`begin raise sqlstate '${state}'; end`)}`.execute(trx);
        return (await countUsers.execute(trx)).rows[0]?.count;
      });
      assert.deepEqual([result, runs], [1n, 3]);
    }
    let runs = 0;
    await assert.rejects(
      withTenant(database.app.db, victim, async (trx) => {
        runs++;
        await sql`do ${sql.lit(`begin raise sqlstate '40001'; end`)}`.execute(trx);
      }),
      { code: "40001" },
    );
    assert.equal(runs, 3);
  });

  test("several tenants commit in one transaction, each with its own rows", async () => {
    const tenants = [randomUUID(), randomUUID()];
    const { db } = database.app;
    await withTenants(db, async (enter) => {
      for (const id of tenants) {
        const trx = await enter(id);
        await trx
          .insertInto("tenants")
          .values({ id, slug: id, name: id, contact_email: `${id}@example.com` })
          .execute();
      }
    });
    for (const id of tenants) {
      const seen = await withTenant(db, id, (trx) => trx.selectFrom("tenants").select("id").execute());
      assert.deepEqual(seen, [{ id }]);
    }
    await assert.rejects(
      withTenants(db, async (enter) => {
        await enter(tenants[0] as string);
        const trx = await enter(tenants[1] as string);
        await trx.updateTable("tenants").set({ name: "changed" }).execute();
        const id = tenants[0] as string;
        await trx
          .insertInto("users")
          .values({ tenant_id: id, id, email: "", display_name: "", role: "OWNER", password_hash: null })
          .execute();
      }),
      { code: "42501" },
    );
  });
});
