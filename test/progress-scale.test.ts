/** Lists of a tenant with many files read a page's worth of rows, not the table: shown by PostgreSQL's own account of it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Kysely, PostgresDialect } from "kysely";
import type { PoolClient } from "pg";
import type { Database } from "../server/src/db/schema.ts";
import { type TenantTransaction, withTenant } from "../server/src/db/tenant.ts";
import { type FileQuery, listFiles } from "../server/src/progress/store.ts";
import { readFiles } from "../server/src/progress/watch/store.ts";
import { createTestDatabase, type TestDatabase } from "./helpers/database.ts";

/** `PULSEWIRE_TEST_FILES=3000000` for millions: what is read must not grow. */
const files = Number(process.env.PULSEWIRE_TEST_FILES ?? 100_000);
const clients = 500;
const pageSize = 100;
/** Blocks of 8 kB that a page may touch: its rows may lie anywhere, and there is the way through the index. */
const maxBlocks = 4 * pageSize;
const tenantId = "018f0000-0000-7000-8000-000000000001";
const middle = "018cf9f7-8800-7000-8000-000000000000";

const everything: FileQuery = {
  clientKrn: "",
  filename: "",
  filenamePrefix: "",
  email: "",
  isCompleted: undefined,
  stalled: undefined,
  hasErrors: undefined,
  createdFrom: undefined,
  createdUntil: undefined,
  oldestFirst: false,
};
const clientKrn = "krn:big:client:7";
const queries: Record<string, Partial<FileQuery>> = {
  "all files": {},
  "a client's": { clientKrn },
  "an e-mail's": { email: "user-42@big.example" },
  "a client's of an e-mail": { clientKrn, email: "user-7@big.example" },
  "a name": { filename: "import-77/77.csv" },
  "the beginning of a name": { filenamePrefix: "import-77/" },
  open: { isCompleted: false },
  "a client's open": { clientKrn: "krn:big:client:0", isCompleted: false },
  stalled: { stalled: true },
  "with errors": { hasErrors: true },
  "of a time": {
    createdFrom: new Date(1_700_000_000_000 + 50_000_000),
    createdUntil: new Date(1_700_000_000_000 + 60_000_000),
  },
};

describe("lists of many files", () => {
  let database: TestDatabase;

  before(async () => {
    database = await createTestDatabase();
    const { superuser } = database;
    await superuser.query(
      "insert into tenants (id, slug, name, contact_email) values ($1, 'big', 'Big', 'a@b.example')",
      [tenantId],
    );
    // Most are completed and without errors, as they are after some years.
    await superuser.query(
      `insert into progress_files (tenant_id, id, key, client_krn, filename, email, done, version, has_errors, created_at,
         updated_at, completed_at)
       select $1::uuid, (lpad(to_hex(1700000000000 + n * 1000), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
         gen_random_uuid(), 'krn:big:client:' || n % $3::int, 'import-' || n % 1000 || '/' || n || '.csv',
         'user-' || n % 2000 || '@big.example', 1, 1, n % 5000 = 0, now(), now() - interval '1 hour',
         case when n % 10000 <> 0 then now() end
       from generate_series(1, $2::bigint) n`,
      [tenantId, files, clients],
    );
    await superuser.query("vacuum analyze progress_files");
  });
  after(() => database.drop());

  /** What a list reads, as the service's own role under row security. */
  async function blocksOf(list: (trx: TenantTransaction) => Promise<unknown>): Promise<number> {
    const statement = await statementOf(list);
    const client: PoolClient = await database.app.pool.connect();
    try {
      await client.query("begin");
      await client.query("select set_config('pulsewire.tenant_id', $1, true)", [tenantId]);
      const { rows } = await client.query(
        `explain (analyze, buffers, format json) ${statement.sql}`,
        statement.parameters as unknown[],
      );
      const [{ Plan: plan }] = rows[0]["QUERY PLAN"];
      return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
    } finally {
      await client.query("rollback");
      client.release();
    }
  }

  /** The statement that a store function runs. */
  async function statementOf(list: (trx: TenantTransaction) => Promise<unknown>) {
    let found: { sql: string; parameters: readonly unknown[] } | undefined;
    const logged = new Kysely<Database>({
      dialect: new PostgresDialect({ pool: database.app.pool }),
      log({ query }) {
        if (/progress_files/.test(query.sql)) found = query;
      },
    });
    await withTenant(logged, tenantId, list);
    assert.ok(found);
    return found;
  }

  for (const [name, query] of Object.entries(queries)) {
    for (const afterId of [undefined, middle]) {
      test(`${name}, ${afterId ? "from the middle on" : "first page"}`, async () => {
        const stalledBefore = new Date(Date.now() - 300_000);
        const whole = { ...everything, ...query };
        const blocks = await blocksOf((trx) =>
          listFiles(trx, tenantId, whole, stalledBefore, pageSize, query.createdFrom ? undefined : afterId),
        );
        // Those whose names begin so lie together, but not in the order of the list: they are sorted.
        const alike = query.filenamePrefix ? files / 1_000 : 0;
        assert.ok(blocks <= maxBlocks + alike, `${blocks} blocks`);
      });
    }
  }

  test("the snapshot of open files for a watcher of the tenant", async () => {
    const scope = { clientKrn: "", filename: "" };
    const blocks = await blocksOf((trx) => readFiles(trx, tenantId, scope, false, pageSize, undefined));
    assert.ok(blocks <= maxBlocks, `${blocks} blocks`);
  });
});
