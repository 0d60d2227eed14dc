/** How samples are stored: no order, split, lateness or moment of compaction may change an answer. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { sql } from "kysely";
import { type TenantTransaction, withTenant } from "../server/src/db/tenant.ts";
import { readSamples } from "../server/src/metrics/read.ts";
import { decodeBatch, encodeBatch } from "../server/src/metrics/storage/batch.ts";
import { insertBatch } from "../server/src/metrics/storage/batches.ts";
import { decodeBlock, encodeBlock } from "../server/src/metrics/storage/block.ts";
import { dayMs, takeStorage } from "../server/src/metrics/storage/blocks.ts";
import type { SampleColumns } from "../server/src/metrics/storage/columns.ts";
import { compactBatches } from "../server/src/metrics/storage/compact.ts";
import { keepHouse } from "../server/src/metrics/storage/compactor.ts";
import { mergeDay } from "../server/src/metrics/storage/merge.ts";
import { runsToMerge } from "../server/src/metrics/storage/runs.ts";
import { createTestDatabase, type TestDatabase } from "./helpers/database.ts";

const maxSamples = 1_000_000;

describe("bytes of samples", () => {
  const value = fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer({ min: -1_000_000, max: 1_000_000 }),
    fc.integer({ min: -1_000_000, max: 1_000_000 }).map((whole) => whole / 100),
    fc.constantFrom(0, -0, 5e-324, 1.7e308, -1.7e308, 2 ** 53, 0.1, 1e-13, 1e21),
  );
  const time = fc.oneof(
    fc.integer({ min: 1_700_000_000_000, max: 1_700_000_900_000 }),
    fc.integer({ min: 0, max: 4_000_000_000_000 }),
  );
  const run = fc.array(fc.tuple(time, value), { minLength: 1, maxLength: 60 });

  test("a block gives back every bit, whole or in part", async () => {
    const runs = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 2 ** 48 }), run), {
      selector: ([ref]) => ref,
      minLength: 1,
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(runs, async (given) => {
        const series = given
          .toSorted(([a], [b]) => a - b)
          .map(([ref, samples]) => {
            const sorted = [...new Map(samples)].sort(([a], [b]) => a - b);
            return {
              ref,
              times: Float64Array.from(sorted, ([at]) => at),
              values: Float64Array.from(sorted, ([, of]) => of),
            };
          });
        const bytes = await encodeBlock(series);
        assert.deepEqual(await decodeBlock(bytes), series);
        const wanted = new Set(series.filter((_, index) => index % 2 === 1).map(({ ref }) => ref));
        assert.deepEqual(
          await decodeBlock(bytes, wanted),
          series.filter(({ ref }) => wanted.has(ref)),
        );
      }),
      { numRuns: 300 },
    );
  });

  test("a batch gives back every bit, in the order it was given", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 2 ** 48 }), run), { maxLength: 8 }), (runs) => {
        const samples = runs.flatMap(([, list]) => list);
        const columns: SampleColumns = {
          refs: runs.map(([ref]) => ref),
          counts: runs.map(([, list]) => list.length),
          times: Float64Array.from(samples, ([at]) => at),
          values: Float64Array.from(samples, ([, of]) => of),
        };
        assert.deepEqual(decodeBatch(encodeBatch([columns])), columns);
      }),
      { numRuns: 300 },
    );
  });

  test("bytes of a later version are refused", async () => {
    assert.throws(() => decodeBatch(Buffer.from([2, ...Buffer.alloc(20)])), /does not know: 2/);
  });
});

describe("runs to merge", () => {
  const runs = (levels: number[]) =>
    levels.map((level, index) => ({ run: BigInt(index), level, samples: 10, writtenAt: new Date() }));
  const picked = (levels: number[], closed = false) =>
    runsToMerge(runs(levels), closed).map(({ run }) => Number(run));

  test("are the newest of a level once there are eight, and all of a day that is over", () => {
    assert.deepEqual(picked([1, 1, 1, 1, 1, 1, 1]), []);
    assert.deepEqual(picked([2, 1, 1, 1, 1, 1, 1, 1, 1]), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(picked([3, 2, 2, 2, 2, 2, 2, 2, 2, 1]), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(picked([3, 2, 1], true), [0, 1, 2]);
    assert.deepEqual(picked([3], true), []);
  });
});

describe("stored samples", () => {
  let database: TestDatabase;
  before(async () => {
    database = await createTestDatabase();
  });
  after(() => database[Symbol.asyncDispose]());

  /** A tenant with a store and series, by their refs. */
  async function makeSeries(count: number) {
    const tenantId = randomUUID();
    const storeId = randomUUID();
    const inTenant = <T>(fn: (trx: TenantTransaction) => Promise<T>) =>
      withTenant(database.app.db, tenantId, fn);
    const refs = await inTenant(async (trx) => {
      await trx
        .insertInto("tenants")
        .values({ id: tenantId, slug: tenantId, name: "T", contact_email: "t@example.com" })
        .execute();
      await trx.insertInto("stores").values({ tenant_id: tenantId, id: storeId, name: "s" }).execute();
      const { rows } = await sql<{ ref: bigint }>`
        insert into series (tenant_id, id, store_id, name, kind)
        select ${tenantId}::uuid, gen_random_uuid(), ${storeId}::uuid, 'm' || n, 'gauge'
        from generate_series(1, ${count}::int) n returning ref`.execute(trx);
      return rows.map(({ ref }) => Number(ref));
    });
    const read = (from: number, to: number) =>
      inTenant(async (trx) =>
        (await readSamples(trx, tenantId, {}, from, to)).flatMap(({ series, timestampsMs, values }) =>
          [...timestampsMs].map((ms, index) => `${Number(series.ref)} ${ms} ${values[index]}`),
        ),
      );
    return { tenantId, storeId, refs, inTenant, read };
  }

  const counts = async (trx: TenantTransaction) => {
    const { rows } = await sql<{ batches: number; blocks: number; samples: number }>`
      select (select count(*)::int from sample_batches) as batches, (select count(*)::int from sample_blocks) as blocks,
        (select coalesce(sum(samples), 0)::int from sample_blocks) as samples`.execute(trx);
    return rows[0];
  };

  const base = Math.floor(Date.now() / dayMs) * dayMs - dayMs;
  type Write = { kind: "write"; samples: [series: number, at: number, value: number][] };
  type Step = Write | { kind: "compact"; max: number } | { kind: "merge"; closed: boolean };

  test("any writes, compactions and merges, in any order, leave what the last writes said", async () => {
    const sample = fc.tuple(
      fc.integer({ min: 0, max: 3 }),
      // Around midnight, so that days are cut; few times, so that many are written again.
      fc.integer({ min: -30, max: 30 }).map((second) => base + dayMs + second * 1_000),
      fc.integer({ min: 0, max: 9_999 }).map((whole) => whole / 10),
    );
    const step: fc.Arbitrary<Step> = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant("write" as const),
          samples: fc.array(sample, { minLength: 1, maxLength: 20 }),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant("compact" as const), max: fc.integer({ min: 1, max: 60 }) }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("merge" as const), closed: fc.boolean() }) },
    );
    const property = fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const { tenantId, refs, inTenant, read } = await makeSeries(4);
      const model = new Map<string, number>();
      for (const each of steps) {
        if (each.kind === "write") {
          await inTenant((trx) => insertBatch(trx, tenantId, [columnsOf(each.samples, refs)]));
          for (const [series, at, value] of each.samples) model.set(`${refs[series]} ${at}`, value);
        } else if (each.kind === "compact") {
          await inTenant((trx) => compactBatches(trx, tenantId, each.max));
        } else {
          for (const day of [base, base + dayMs]) {
            const name = new Date(day).toISOString().slice(0, 10);
            await inTenant((trx) => mergeDay(trx, tenantId, name, each.closed));
          }
        }
        const expected = [...model].map(([key, value]) => `${key} ${value}`).sort();
        assert.deepEqual((await read(base, base + 2 * dayMs)).sort(), expected);
      }
      const from = base + dayMs - 7_000;
      const within = [...model]
        .filter(([key]) => Number(key.split(" ")[1]) >= from && Number(key.split(" ")[1]) < from + 15_000)
        .map(([key, value]) => `${key} ${value}`);
      assert.deepEqual((await read(from, from + 15_000)).sort(), within.sort());
    });
    await fc.assert(property, { numRuns: 40 });
  });

  test("many samples of many series come through compaction and merging in full blocks", async () => {
    const { tenantId, refs, inTenant, read } = await makeSeries(40);
    const expected: string[] = [];
    for (let part = 0; part < 10; part++) {
      const samples = refs.flatMap((_, series) =>
        Array.from({ length: 250 }, (_, at): Write["samples"][number] => [
          series,
          base + (part * 250 + at) * 10_000,
          series + at / 4,
        ]),
      );
      for (const [series, at, value] of samples) expected.push(`${refs[series]} ${at} ${value}`);
      await inTenant((trx) => insertBatch(trx, tenantId, [columnsOf(samples, refs)]));
      await inTenant((trx) => compactBatches(trx, tenantId, maxSamples));
      const day = new Date(base).toISOString().slice(0, 10);
      await inTenant((trx) => mergeDay(trx, tenantId, day, part === 9));
    }
    assert.deepEqual((await read(base, base + dayMs)).sort(), expected.sort());
    const { rows } = await inTenant((trx) =>
      sql<{ runs: number; blocks: number; bytes: number }>`
        select count(distinct run)::int as runs, count(*)::int as blocks, sum(length(data))::int as bytes
        from sample_blocks`.execute(trx),
    );
    assert.deepEqual([rows[0]?.runs, rows[0]?.blocks], [1, 4], "32,768 samples a block");
    assert.ok((rows[0]?.bytes ?? 0) / 100_000 < 1, "regular series take less than a byte a sample");
  });

  test("a compaction that is cut off leaves everything as it was, and the next one does it once", async () => {
    const { tenantId, refs, inTenant, read } = await makeSeries(2);
    const samples: Write["samples"] = [
      [0, base, 1],
      [1, base + 1, 2],
    ];
    await inTenant((trx) => insertBatch(trx, tenantId, [columnsOf(samples, refs)]));
    const before = await read(base, base + dayMs);
    const cut = new Error("cut off");
    for (const work of [
      (trx: TenantTransaction) => compactBatches(trx, tenantId, maxSamples),
      (trx: TenantTransaction) => mergeDay(trx, tenantId, new Date(base).toISOString().slice(0, 10), true),
    ]) {
      const failing = inTenant(async (trx) => {
        await work(trx);
        throw cut;
      });
      await assert.rejects(failing, cut);
      assert.deepEqual(await inTenant(counts), { batches: 1, blocks: 0, samples: 0 });
    }
    assert.deepEqual(await read(base, base + dayMs), before);
    await inTenant((trx) => compactBatches(trx, tenantId, maxSamples));
    assert.deepEqual(await inTenant(counts), { batches: 0, blocks: 1, samples: 2 });
    assert.equal((await inTenant((trx) => compactBatches(trx, tenantId, maxSamples)))?.batches, 0);
    assert.deepEqual(await read(base, base + dayMs), before);
  });

  test("the connection is killed in the middle of a compaction, and nothing is lost or doubled", async () => {
    const { tenantId, refs, inTenant, read } = await makeSeries(3);
    for (let batch = 0; batch < 5; batch++) {
      const samples = refs.map((_, series): Write["samples"][number] => [series, base + batch, batch]);
      await inTenant((trx) => insertBatch(trx, tenantId, [columnsOf(samples, refs)]));
    }
    const before = await read(base, base + dayMs);
    const killed = inTenant(async (trx) => {
      await compactBatches(trx, tenantId, maxSamples);
      const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(trx);
      await database.superuser.query("select pg_terminate_backend($1)", [rows[0]?.pid]);
      await sql`select 1`.execute(trx);
    });
    await assert.rejects(killed);
    assert.deepEqual(await inTenant(counts), { batches: 5, blocks: 0, samples: 0 });
    assert.deepEqual(await read(base, base + dayMs), before);
    await inTenant((trx) => compactBatches(trx, tenantId, maxSamples));
    assert.deepEqual(await read(base, base + dayMs), before);
  });

  test("two processes never compact one tenant at a time, and readers see every sample once meanwhile", async () => {
    const { tenantId, refs, inTenant, read } = await makeSeries(2);
    await inTenant((trx) => insertBatch(trx, tenantId, [columnsOf([[0, base, 1]], refs)]));
    await inTenant(async (trx) => {
      assert.equal(await takeStorage(trx, tenantId), true);
      assert.equal(await inTenant((other) => compactBatches(other, tenantId, maxSamples)), undefined);
      assert.equal((await compactBatches(trx, tenantId, maxSamples))?.batches, 1);
      assert.deepEqual(await read(base, base + dayMs), [`${refs[0]} ${base} 1`]);
    });
    assert.deepEqual(await read(base, base + dayMs), [`${refs[0]} ${base} 1`]);
  });

  test("retention removes whole days, and a deleted store's samples are removed from the blocks", async () => {
    const first = await makeSeries(2);
    const { tenantId, storeId, refs, inTenant, read } = first;
    const other = await makeSeries(1);
    const old = base - 9 * dayMs;
    for (const { tenantId, inTenant, refs } of [first, other]) {
      const samples: Write["samples"] = [
        [0, old, 1],
        [0, base, 2],
      ];
      await inTenant((trx) => insertBatch(trx, tenantId, [columnsOf(samples, refs)]));
      await inTenant((trx) => compactBatches(trx, tenantId, maxSamples));
    }
    await keepHouse(database.app.db, 9);
    assert.deepEqual(await read(old, base + dayMs), [`${refs[0]} ${base} 2`]);

    await inTenant(async (trx) => {
      await sql`insert into deleted_series select tenant_id, ref from series where tenant_id = ${tenantId}`.execute(
        trx,
      );
      await sql`delete from stores where tenant_id = ${tenantId} and id = ${storeId}`.execute(trx);
    });
    await keepHouse(database.app.db, 0);
    assert.deepEqual(await inTenant(counts), { batches: 0, blocks: 0, samples: 0 });
    assert.deepEqual(await inTenant((trx) => trx.selectFrom("deleted_series").selectAll().execute()), []);
    assert.deepEqual(await other.read(old, base + dayMs), [`${other.refs[0]} ${base} 2`]);

    // A flush may have come in just before the deletion.
    await inTenant((trx) => insertBatch(trx, tenantId, [columnsOf([[0, base, 3]], refs)]));
    await inTenant((trx) => compactBatches(trx, tenantId, maxSamples));
    assert.deepEqual(await inTenant(counts), { batches: 0, blocks: 0, samples: 0 });
  });

  function columnsOf(samples: Write["samples"], refs: readonly number[]): SampleColumns {
    return {
      refs: samples.map(([series]) => refs[series] as number),
      counts: samples.map(() => 1),
      times: Float64Array.from(samples, ([, at]) => at),
      values: Float64Array.from(samples, ([, , value]) => value),
    };
  }
});
