/**
 * Three ways to store samples in PostgreSQL: node test/bench/sample-layouts.ts [--json file]
 *
 * One row a sample; one row with arrays for each series of a flush; one row for a flush, compacted into blocks of series, which is what
 * `server/src/metrics/storage` does. The same batches of 5,000, each committed for itself, over two connections; then the bytes, and the
 * mean of every 5 minutes of a day of 100 series.
 */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Kysely, PostgresDialect } from "kysely";
import { Pool } from "pg";
import type { Database } from "../../server/src/db/schema.ts";
import { withTenant } from "../../server/src/db/tenant.ts";
import { Aggregation } from "../../server/src/gen/pulsewire/metrics/v1/sample_pb.js";
import { StepGroup } from "../../server/src/metrics/aggregate.ts";
import { insertBatch } from "../../server/src/metrics/storage/batches.ts";
import { compactBatches } from "../../server/src/metrics/storage/compact.ts";
import { mergeDay } from "../../server/src/metrics/storage/merge.ts";
import { readRuns } from "../../server/src/metrics/storage/read-runs.ts";
import { connectToDatabase } from "../faults/database.ts";
import { startServerProcess } from "../helpers/server-process.ts";
import { type BenchResult, printResult, show, writeReport } from "./report.ts";
import { batchOf, batchSize, type Series, type Shape } from "./sample-payloads.ts";

const dayMs = 86_400_000;
const stepMs = 300_000;
const connections = 2;
const tenantId = randomUUID();

/** A batch with the numbers of its series. */
interface Numbered {
  readonly refs: number[];
  readonly batch: Series[];
}

interface Layout {
  readonly name: string;
  readonly tables: string[];
  prepare(pool: Pool): Promise<void>;
  write(pool: Pool, batch: Numbered): Promise<void>;
  settle(): Promise<void>;
  /** Points of the day of these series. */
  query(pool: Pool, refs: number[], startMs: number): Promise<number>;
}

const flat = ({ refs, batch }: Numbered) => ({
  refs: batch.flatMap(({ times }, index) => times.map(() => refs[index] as number)),
  times: batch.flatMap(({ times }) => times),
  values: batch.flatMap(({ values }) => values),
});

const narrow: Layout = {
  name: "a row a sample",
  tables: ["narrow"],
  async prepare(pool) {
    await pool.query(`create table narrow (tenant_id uuid, ref bigint, ts timestamptz, value double precision,
      primary key (tenant_id, ref, ts))`);
  },
  async write(pool, batch) {
    const { refs, times, values } = flat(batch);
    await pool.query({
      name: "narrow",
      text: `insert into narrow select $1::uuid, ref, to_timestamp(ms / 1000), value
        from unnest($2::bigint[], $3::double precision[], $4::double precision[]) as t (ref, ms, value)
        on conflict (tenant_id, ref, ts) do update set value = excluded.value`,
      values: [tenantId, refs, times, values],
    });
  },
  settle: async () => {},
  async query(pool, refs, startMs) {
    const { rows } = await pool.query(
      `select ref, floor(extract(epoch from ts) / 300) as step, avg(value) from narrow
       where tenant_id = $1 and ref = any($2::bigint[]) and ts >= to_timestamp($3::double precision / 1000)
         and ts < to_timestamp($4::double precision / 1000)
       group by 1, 2 order by 1, 2`,
      [tenantId, refs, startMs, startMs + dayMs],
    );
    return rows.length;
  },
};

const arrays: Layout = {
  name: "a row of arrays a series and flush",
  tables: ["arrays"],
  async prepare(pool) {
    await pool.query(`create table arrays (tenant_id uuid, ref bigint, first_ms bigint, times bigint[], vals double precision[],
      primary key (tenant_id, ref, first_ms))`);
  },
  async write(pool, { refs, batch }) {
    await pool.query({
      name: "arrays",
      text: `insert into arrays select $1::uuid, ref, first_ms, times::bigint[], vals::double precision[]
        from unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[]) as t (ref, first_ms, times, vals)
        on conflict (tenant_id, ref, first_ms) do update set times = excluded.times, vals = excluded.vals`,
      values: [
        tenantId,
        refs,
        batch.map(({ times }) => times[0]),
        batch.map(({ times }) => `{${times.join()}}`),
        batch.map(({ values }) => `{${values.join()}}`),
      ],
    });
  },
  settle: async () => {},
  async query(pool, refs, startMs) {
    const { rows } = await pool.query(
      `select ref, floor(ms / 300000.0) as step, avg(value)
       from arrays, unnest(times, vals) as t (ms, value)
       where tenant_id = $1 and ref = any($2::bigint[]) and first_ms >= $3 and first_ms < $4
       group by 1, 2 order by 1, 2`,
      [tenantId, refs, startMs, startMs + dayMs],
    );
    return rows.length;
  },
};

function packed(db: Kysely<Database>): Layout {
  const days = new Set<string>();
  return {
    name: "a row a flush, compacted into blocks",
    tables: ["sample_batches", "sample_blocks"],
    prepare: async () => {},
    async write(_, { refs, batch }) {
      const columns = {
        refs,
        counts: batch.map(({ times }) => times.length),
        times: Float64Array.from(batch.flatMap(({ times }) => times)),
        values: Float64Array.from(batch.flatMap(({ values }) => values)),
      };
      await withTenant(db, tenantId, (trx) => insertBatch(trx, tenantId, [columns]));
    },
    async settle() {
      for (;;) {
        const done = await withTenant(db, tenantId, (trx) => compactBatches(trx, tenantId, 1_000_000));
        for (const day of done?.days ?? []) days.add(day);
        if (!done?.more) break;
      }
      for (const day of days) await withTenant(db, tenantId, (trx) => mergeDay(trx, tenantId, day, true));
    },
    async query(_, refs, startMs) {
      const runs = await withTenant(db, tenantId, (trx) =>
        readRuns(trx, tenantId, refs, startMs, startMs + dayMs),
      );
      let points = 0;
      for (const { times, values } of runs) {
        const group = new StepGroup({ stepMs, startMs, aggregation: Aggregation.AVG });
        group.beginSeries();
        group.addSamples({ timestampsMs: times, values });
        points += group.points().values.length;
      }
      return points;
    },
  };
}

export async function sampleLayoutsBench(batches: Record<Shape, number>): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using server = await startServerProcess({
      PULSEWIRE_DATA_DIR: dataDir,
      PULSEWIRE_SAMPLE_COMPACTION_AGE: "86400",
      PULSEWIRE_ROLE: "api",
    });
    await using database = await connectToDatabase(dataDir);
    const { host, user, database: name } = database;
    const pool = new Pool({
      host,
      user: user as string,
      database: name as string,
      max: connections + 1,
      options: "-c search_path=pulsewire",
    });
    const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
    const startMs = Math.floor(Date.now() / dayMs - 20) * dayMs;
    const numbers = new Map<string, number>();
    const made = (shape: Shape) =>
      Array.from({ length: batches[shape] }, (_, round): Numbered => {
        const batch = batchOf(shape, 0, round, startMs);
        const refs = batch.map(({ name, labels }) => {
          const key = JSON.stringify([name, labels]);
          const ref = numbers.get(key) ?? numbers.size + 1;
          numbers.set(key, ref);
          return ref;
        });
        return { refs, batch };
      });
    const shapes = (["gateway", "scrape", "day"] as const).map((shape) => ({ shape, list: made(shape) }));
    // The compaction asks for the series.
    await pool.query(
      "insert into tenants (id, slug, name, contact_email) values ($1, 'layouts', 'L', 'l@example.com')",
      [tenantId],
    );
    await pool.query("insert into stores (tenant_id, id, name) values ($1, $1, 's')", [tenantId]);
    await pool.query("alter table series alter column ref set generated by default");
    await pool.query(
      `insert into series (tenant_id, id, store_id, name, kind, ref)
       select $1, gen_random_uuid(), $1, 'm' || n, 'gauge', n from generate_series(1, $2::int) n`,
      [tenantId, numbers.size],
    );
    const dayRefs = [
      ...new Set(shapes.find(({ shape }) => shape === "day")?.list.flatMap(({ refs }) => refs)),
    ];

    const figures = [];
    for (const layout of [narrow, arrays, packed(db)]) {
      await layout.prepare(pool);
      const rates: Partial<Record<Shape, number>> = {};
      let written = 0;
      for (const { shape, list } of shapes) {
        const queue = [...list].reverse();
        const started = performance.now();
        await Promise.all(
          Array.from({ length: connections }, async () => {
            for (let batch = queue.pop(); batch; batch = queue.pop()) await layout.write(pool, batch);
          }),
        );
        rates[shape] = (list.length * batchSize) / ((performance.now() - started) / 1_000);
        written += list.length * batchSize;
      }
      const started = performance.now();
      await layout.settle();
      const settleSeconds = (performance.now() - started) / 1_000;
      let bytes = 0;
      for (const table of layout.tables) {
        await pool.query(`vacuum analyze ${table}`);
        const { rows } = await pool.query("select pg_total_relation_size($1)::float8 as bytes", [table]);
        bytes += rows[0].bytes;
      }
      const times: number[] = [];
      let points = 0;
      for (let run = 0; run < 6; run++) {
        const asked = performance.now();
        points = await layout.query(pool, dayRefs, startMs);
        if (run > 0) times.push(performance.now() - asked);
      }
      const queryMs = times.sort((a, b) => a - b)[2] as number;
      figures.push({
        name: layout.name,
        ...rates,
        bytesPerSample: bytes / written,
        queryMs,
        points,
        settleSeconds,
        written,
      });
    }
    await db.destroy();
    await server.stop();
    return {
      name: "sample-layouts",
      title: `Layouts of samples: batches of ${batchSize}, ${connections} connections, a commit each`,
      columns: [
        "layout",
        "gateway: samples/s",
        "scrape: samples/s",
        "bytes a sample",
        "24 h of 100 series, ms",
        "compaction, µs a sample",
      ],
      rows: figures.map((of) => [
        of.name,
        show(of.gateway ?? 0),
        show(of.scrape ?? 0),
        show(of.bytesPerSample),
        show(of.queryMs),
        show((of.settleSeconds * 1e6) / of.written),
      ]),
      notes: [`${show(figures[0]?.written ?? 0)} samples of ${show(numbers.size)} series each.`],
      figures,
    };
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { json: { type: "string" } } });
  const result = await sampleLayoutsBench({ gateway: 100, scrape: 100, day: Math.ceil(dayMs / 15_000 / 50) });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
