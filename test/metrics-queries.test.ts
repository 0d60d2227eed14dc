/** Queries against a naive model: whatever is asked, and wherever the samples lie. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { withTenant } from "../server/src/db/tenant.ts";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Aggregation, MetricKind } from "../server/src/gen/pulsewire/metrics/v1/sample_pb.js";
import { dayMs } from "../server/src/metrics/storage/blocks.ts";
import { compactBatches } from "../server/src/metrics/storage/compact.ts";
import { mergeDay } from "../server/src/metrics/storage/merge.ts";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const minute = 60_000;
const hour = 60 * minute;
const firstDay = Math.floor(Date.now() / dayMs) * dayMs - 4 * dayMs;

type Points = [ms: number, value: number][];
/** By series, by time. */
type Model = Map<string, Map<number, number>>;

const quantiles: Partial<Record<Aggregation, number>> = {
  [Aggregation.P50]: 0.5,
  [Aggregation.P95]: 0.95,
  [Aggregation.P99]: 0.99,
};

/** What a query has to answer, as simply as it can be said. */
function expected(model: Model, aggregation: Aggregation, step: number, start: number, end: number): Points {
  const steps = new Map<number, { ms: number; value: number; growth: number }[]>();
  for (const samples of model.values()) {
    const sorted = [...samples].sort(([a], [b]) => a - b);
    sorted.forEach(([ms, value], index) => {
      if (ms < start || ms >= end) return;
      const [beforeMs, before] = sorted[index - 1] ?? [Number.NEGATIVE_INFINITY, 0];
      const near = ms - beforeMs <= Math.max(step, 5 * minute);
      const growth = !near ? 0 : value >= before ? value - before : value;
      const at = Math.floor(ms / step) * step;
      const of = steps.get(at) ?? [];
      of.push({ ms, value, growth });
      steps.set(at, of);
    });
  }
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  return [...steps]
    .sort(([a], [b]) => a - b)
    .map(([at, samples]) => {
      const values = samples.map(({ value }) => value);
      const quantile = quantiles[aggregation];
      if (quantile !== undefined) {
        const sorted = values.toSorted((a, b) => a - b);
        const rank = quantile * (values.length - 1);
        const [low, high] = [sorted[Math.floor(rank)] as number, sorted[Math.ceil(rank)] as number];
        return [at, low + (high - low) * (rank % 1)];
      }
      const latest = Math.max(...samples.map(({ ms }) => ms));
      const of: Partial<Record<Aggregation, () => number>> = {
        [Aggregation.AVG]: () => sum(values) / values.length,
        [Aggregation.MIN]: () => Math.min(...values),
        [Aggregation.MAX]: () => Math.max(...values),
        [Aggregation.SUM]: () => sum(values),
        [Aggregation.COUNT]: () => values.length,
        [Aggregation.LAST]: () => samples.findLast(({ ms }) => ms === latest)?.value as number,
        [Aggregation.RATE]: () => sum(samples.map(({ growth }) => growth)) / (step / 1_000),
      };
      return [at, of[aggregation]?.() as number];
    });
}

const aggregations = Object.values(Aggregation).filter(
  (value): value is Exclude<Aggregation, Aggregation.UNSPECIFIED> => typeof value === "number" && value !== 0,
);

describe("queries", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let metrics: Client<typeof MetricsService>;
  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    metrics = createClient(MetricsService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  const compact = async () => {
    const { tenantId } = server.tenant;
    await withTenant(server.context.db, tenantId, (trx) => compactBatches(trx, tenantId, 1_000_000));
  };
  const mergeDays = async () => {
    const { tenantId } = server.tenant;
    for (let day = firstDay; day < firstDay + 5 * dayMs; day += dayMs) {
      const name = new Date(day).toISOString().slice(0, 10);
      await withTenant(server.context.db, tenantId, (trx) => mergeDay(trx, tenantId, name, true));
    }
  };

  /** A store, what is written to it, and what the model has of it. */
  async function makeStore(name: string) {
    const storeId = (await metrics.createStore({ name })).store?.id ?? "";
    const model: Model = new Map();
    const write = async (host: string, samples: Points) => {
      const base = Math.min(...samples.map(([ms]) => ms));
      await metrics.writeSamples({
        storeId,
        series: [
          {
            name: "m",
            labels: { host },
            kind: MetricKind.GAUGE,
            baseTime: timestampFromMs(base),
            offsetsMs: samples.map(([ms]) => ms - base),
            values: samples.map(([, value]) => value),
          },
        ],
      });
      const known = model.get(host) ?? new Map<number, number>();
      for (const [ms, value] of samples) known.set(ms, value);
      model.set(host, known);
    };
    const ask = async (aggregation: Aggregation, step: number, start: number, end: number) => {
      const { series } = await metrics.querySamples({
        storeId,
        name: "m",
        start: timestampFromMs(start),
        end: timestampFromMs(end),
        step: durationFromMs(step),
        aggregation,
        groupBy: ["store_id"],
        maxPoints: 100_000,
      });
      assert.ok(series.length <= 1);
      const [points] = series;
      return (points?.timestampsMs ?? []).map((ms, index) => [ms, points?.values[index]] as [number, number]);
    };
    return { storeId, model, write, ask };
  }

  function assertNear(actual: Points, wanted: Points, title: string) {
    assert.deepEqual(
      actual.map(([ms]) => ms),
      wanted.map(([ms]) => ms),
      title,
    );
    actual.forEach(([ms, value], index) => {
      const want = wanted[index]?.[1] as number;
      const tolerance = 1e-9 * Math.max(1, Math.abs(want));
      assert.ok(Math.abs(value - want) <= tolerance, `${title} at ${ms}: ${value}, not ${want}`);
    });
  }

  test("answer as the model does, to the last bit the same before and after each compaction", async () => {
    let stores = 0;
    const points = fc.array(
      fc.tuple(
        // Some close together, some with gaps, over three days.
        fc.oneof(
          fc.nat({ max: 3 * 86_400 }).map((second) => firstDay + second * 1_000),
          fc.nat({ max: 600 }).map((second) => firstDay + dayMs + second * 1_000),
        ),
        fc.integer({ min: -10_000, max: 10_000 }).map((whole) => whole / 100),
      ),
      { minLength: 1, maxLength: 60 },
    );
    const property = fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom("a", "b"), points), { minLength: 1, maxLength: 4 }),
      fc.constantFrom(10_000, minute, 7 * minute, hour, 6 * hour, dayMs),
      fc.nat({ max: 36 }).map((hours) => firstDay + hours * hour),
      fc.integer({ min: 1, max: 60 }),
      async (writes, step, start, hours) => {
        const end = start + hours * hour;
        const store = await makeStore(`model-${stores++}`);
        const answers = async () =>
          await Promise.all(aggregations.map((aggregation) => store.ask(aggregation, step, start, end)));
        for (const [host, samples] of writes) {
          await store.write(host, samples);
          const fresh = await answers();
          aggregations.forEach((aggregation, index) => {
            const wanted = expected(store.model, aggregation, step, start, end);
            assertNear(fresh[index] as Points, wanted, Aggregation[aggregation]);
          });
          await compact();
          assert.deepEqual(await answers(), fresh, "compacted");
          await mergeDays();
          assert.deepEqual(await answers(), fresh, "merged");
        }
      },
    );
    await fc.assert(property, { numRuns: 12 });
  });

  test("over days are answered from what hours come to, and late samples count at once", async () => {
    const store = await makeStore("long");
    const counter = (ms: number) => Math.floor((ms % (5 * hour)) / 7_000);
    const every = 15_000;
    for (let day = 0; day < 3; day++) {
      const samples = Array.from({ length: dayMs / every }, (_, index): [number, number] => {
        const ms = firstDay + day * dayMs + index * every;
        return [ms, counter(ms) / 4];
      });
      await store.write("a", samples);
      await store.write(
        "b",
        samples.map(([ms, value]) => [ms + 1, value * 3]),
      );
    }
    const range = [firstDay + 30 * minute, firstDay + 3 * dayMs - hour] as const;
    const check = async (title: string) => {
      for (const aggregation of aggregations) {
        for (const step of [hour, 4 * hour]) {
          const wanted = expected(store.model, aggregation, step, ...range);
          const asked = await store.ask(aggregation, step, ...range);
          assertNear(asked, wanted, `${title}: ${Aggregation[aggregation]}`);
        }
      }
      return await Promise.all(aggregations.map((aggregation) => store.ask(aggregation, hour, ...range)));
    };
    const fresh = await check("fresh");
    await compact();
    const compacted = await check("compacted");
    assert.deepEqual(compacted, fresh);
    const { rows } = await server.database.superuser.query(
      "select count(*) filter (where rollup is not null)::int as rolled, count(*)::int as blocks from sample_blocks where samples > 2000",
    );
    assert.ok(rows[0].rolled > 0 && rows[0].rolled === rows[0].blocks, JSON.stringify(rows));
    // Late: one between others, one in place of another.
    const at = firstDay + dayMs + 5 * hour;
    await store.write("a", [
      [at + 1_234, 1e6],
      [at, -5],
    ]);
    const late = await check("late");
    assert.notDeepEqual(late, fresh);
    await compact();
    assert.deepEqual(await check("late, compacted"), late);
    await mergeDays();
    assert.deepEqual(await check("late, merged"), late);
  });

  test("more samples or points than a query may have are refused, never cut", async () => {
    const store = await makeStore("many");
    const samples = Array.from({ length: 1_000 }, (_, index): [number, number] => [
      firstDay + index * 1_000,
      index,
    ]);
    await store.write("a", samples);
    const range = {
      storeId: store.storeId,
      start: timestampFromMs(firstDay),
      end: timestampFromMs(firstDay + hour),
    };
    for (const query of [{}, { step: durationFromMs(1_000) }]) {
      const refused = metrics.querySamples({ ...range, ...query, maxPoints: 999 });
      assert.deepEqual((await assertFails(refused, Code.InvalidArgument, "INVALID_FIELD")).fields, [
        "max_points",
      ]);
      const { series } = await metrics.querySamples({ ...range, ...query, maxPoints: 1_000 });
      assert.equal(series[0]?.values.length, 1_000);
    }
  });
});
