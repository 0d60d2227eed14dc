import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type PipelinedStatement, pipelineForTenants } from "../server/src/db/pipeline.ts";
import { withTenant } from "../server/src/db/tenant.ts";
import { createTestDatabase, type TestDatabase } from "./helpers/database.ts";

/** Stores an event key, for the tenant that it names. */
const store = (tenant: string, key: string): PipelinedStatement => ({
  sql: "/* kept as store_key */ insert into event_keys (tenant_id, key, event_row) values ($1, $2, $2)",
  parameters: [tenant, key],
});
const broken: PipelinedStatement = {
  sql: "/* kept as divide */ select 1 / $1::int",
  parameters: [0],
};

describe("a pipeline", () => {
  let database: TestDatabase;
  before(async () => {
    database = await createTestDatabase();
  });
  after(() => database[Symbol.asyncDispose]());

  const run = (...tenants: [string, PipelinedStatement[]][]) =>
    pipelineForTenants(database.app.pool, new Map(tenants));
  const keysOf = (tenant: string) =>
    withTenant(database.app.db, tenant, async (trx) =>
      (await trx.selectFrom("event_keys").select("key").orderBy("key").execute()).map(({ key }) => key),
    );

  test("writes for each tenant as that tenant, in one transaction", async () => {
    const [one, other] = [randomUUID(), randomUUID()];
    const keys = [randomUUID(), randomUUID(), randomUUID()].sort() as [string, string, string];
    await run([one, [store(one, keys[0]), store(one, keys[1])]], [other, [store(other, keys[2])]]);
    assert.deepEqual(await keysOf(one), keys.slice(0, 2));
    assert.deepEqual(await keysOf(other), keys.slice(2));
    const { rows } = await database.superuser.query(
      "select count(distinct xmin::text)::int as transactions from pulsewire.event_keys where tenant_id = any($1)",
      [[one, other]],
    );
    assert.equal(rows[0].transactions, 1);
  });

  test("cannot write for a tenant other than the one it is for, and writes nothing then", async () => {
    const [one, other] = [randomUUID(), randomUUID()];
    const wrong = run(
      [one, [store(one, randomUUID())]],
      [other, [store(other, randomUUID()), store(one, randomUUID())]],
    );
    await assert.rejects(wrong, /row-level security/);
    assert.deepEqual([await keysOf(one), await keysOf(other)], [[], []]);
    await assert.rejects(run(["no uuid", [store(one, randomUUID())]]), /tenant id is no UUID/);
  });

  test("leaves no tenant behind on the connection", async () => {
    const tenant = randomUUID();
    await run([tenant, [store(tenant, randomUUID())]]);
    const { rows } = await database.app.pool.query("select count(*)::int as n from event_keys");
    assert.equal(rows[0].n, 0);
  });

  test("a failure rolls everything back, and the connection goes on with the same statements", async () => {
    const tenant = randomUUID();
    for (let time = 0; time < 3; time++) {
      const failed = run([tenant, [store(tenant, randomUUID()), broken, store(tenant, randomUUID())]]);
      await assert.rejects(failed, { code: "22012" });
    }
    const key = randomUUID();
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        run([tenant, [store(tenant, index === 0 ? key : randomUUID())]]),
      ),
    );
    assert.equal((await keysOf(tenant)).length, 20);
    await assert.rejects(run([tenant, [store(tenant, key)]]), { code: "23505" });
    assert.equal((await keysOf(tenant)).length, 20);
  });
});
