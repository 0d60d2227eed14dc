import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Aggregation, MetricKind } from "../server/src/gen/pulsewire/metrics/v1/sample_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const minute = 60_000;
/** A whole minute, an hour ago. */
const base = Math.floor(Date.now() / minute) * minute - 60 * minute;

describe("metrics", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let metrics: Client<typeof MetricsService>;
  const at = (ms: number) => timestampFromMs(base + ms);
  const createStore = async (name: string) => (await metrics.createStore({ name })).store?.id ?? "";

  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    metrics = createClient(MetricsService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("stores are made, found and listed by name", async () => {
    for (const name of ["b-2", "b-1", "b-3"]) await metrics.createStore({ name, labels: { city: "Köln" } });
    const walked: string[] = [];
    for (let pageToken = ""; ; ) {
      const page = await metrics.listStores({ pageSize: 2, pageToken, nameContains: "b-" });
      walked.push(...page.stores.map(({ name }) => name));
      if (!page.nextPageToken) break;
      pageToken = page.nextPageToken;
    }
    assert.deepEqual(walked, ["b-1", "b-2", "b-3"]);
    const taken = await assertFails(
      metrics.createStore({ name: "b-1" }),
      Code.AlreadyExists,
      "ALREADY_EXISTS",
    );
    assert.equal(taken.metadata.field, "name");
    const id = "00000000-0000-4000-8000-000000000000";
    await assertFails(metrics.getStore({ storeId: id }), Code.NotFound, "NOT_FOUND");
  });

  test("packed and plain samples are read back equal, raw and in order", async () => {
    const storeId = await createStore("raw");
    const written = await metrics.writeSamples({
      storeId,
      series: [
        {
          name: "cpu_usage",
          labels: { core: "0" },
          unit: "percent",
          kind: MetricKind.GAUGE,
          baseTime: at(0),
          offsetsMs: [2_000, 0, 1_000],
          values: [3, 1, 2],
        },
      ],
      samples: [{ name: "temperature", value: -4.25, timestamp: at(500), unit: "celsius" }],
    });
    assert.equal(written.counts?.accepted, 4);
    assert.equal(written.newSeries, 2);
    const { series } = await metrics.querySamples({ storeId, start: at(0), end: at(minute) });
    assert.deepEqual(
      series.map(({ name, labels, unit, timestampsMs, values }) => ({
        name,
        labels,
        unit,
        timestampsMs,
        values,
      })),
      [
        {
          name: "cpu_usage",
          labels: { core: "0" },
          unit: "percent",
          timestampsMs: [base, base + 1_000, base + 2_000],
          values: [1, 2, 3],
        },
        { name: "temperature", labels: {}, unit: "celsius", timestampsMs: [base + 500], values: [-4.25] },
      ],
    );
    const listed = await metrics.listSeries({ storeId, nameContains: "cpu" });
    assert.deepEqual(
      listed.series.map(({ name, kind }) => [name, kind]),
      [["cpu_usage", MetricKind.GAUGE]],
    );
  });

  test("metrics are listed by name, of a store or of all, in pages", async () => {
    const [first, second] = [await createStore("names 1"), await createStore("names 2")];
    const samples = (storeId: string, names: string[], unit: string) =>
      metrics.writeSamples({
        storeId,
        samples: names.map((name, index) => ({ name, unit, value: 1, labels: { n: String(index) } })),
      });
    await samples(first, ["names_b", "names_a", "names_a"], "ms");
    await samples(second, ["names_c", "names_a"], "s");
    const list = async (request: object) => {
      const found = [];
      for (let pageToken = ""; ; ) {
        const page = await metrics.listMetrics({
          pageSize: 2,
          pageToken,
          nameContains: "names_",
          ...request,
        });
        found.push(...page.metrics.map(({ name, unit, seriesCount }) => [name, unit, Number(seriesCount)]));
        pageToken = page.nextPageToken;
        if (pageToken === "") return found;
      }
    };
    assert.deepEqual(await list({}), [
      ["names_a", "s", 3],
      ["names_b", "ms", 1],
      ["names_c", "s", 1],
    ]);
    assert.deepEqual(await list({ storeId: first }), [
      ["names_a", "ms", 2],
      ["names_b", "ms", 1],
    ]);
    assert.deepEqual(await list({ nameContains: "names_c", storeId: first }), []);
  });

  test("samples that are sent again count as written, and the later value stands", async () => {
    const storeId = await createStore("again");
    const sample = { name: "m", value: 1, timestamp: at(0) };
    await metrics.writeSamples({ storeId, samples: [sample, { ...sample, value: 2 }] });
    const again = await metrics.writeSamples({ storeId, samples: [{ ...sample, value: 3 }] });
    assert.equal(again.counts?.accepted, 1);
    assert.equal(again.newSeries, 0);
    const { series } = await metrics.querySamples({ storeId, start: at(0), end: at(minute) });
    assert.deepEqual(series[0]?.values, [3]);
  });

  test("steps are aggregated in every way, and gaps stay gaps", async () => {
    const storeId = await createStore("steps");
    const values = [1, 2, 3, 4, 10];
    await metrics.writeSamples({
      storeId,
      samples: [
        ...values.map((value, index) => ({ name: "m", value, timestamp: at(index * 1_000) })),
        { name: "m", value: 7, timestamp: at(2 * minute) },
      ],
    });
    const expected: [Aggregation, number][] = [
      [Aggregation.AVG, 4],
      [Aggregation.MIN, 1],
      [Aggregation.MAX, 10],
      [Aggregation.SUM, 20],
      [Aggregation.COUNT, 5],
      [Aggregation.LAST, 10],
      [Aggregation.P50, 3],
      [Aggregation.P95, 8.8],
      [Aggregation.UNSPECIFIED, 4],
    ];
    const range = { storeId, name: "m", start: at(0), end: at(10 * minute), step: durationFromMs(minute) };
    for (const [aggregation, value] of expected) {
      const [points] = (await metrics.querySamples({ ...range, aggregation })).series;
      assert.deepEqual(points?.timestampsMs, [base, base + 2 * minute], Aggregation[aggregation]);
      assert.ok(
        Math.abs((points?.values[0] ?? 0) - value) < 1e-9,
        `${Aggregation[aggregation]}: ${points?.values[0]}`,
      );
    }
    const tooMany = metrics.querySamples({ ...range, maxPoints: 1 });
    assert.deepEqual((await assertFails(tooMany, Code.InvalidArgument, "INVALID_FIELD")).fields, [
      "max_points",
    ]);
  });

  test("a counter is asked for as a rate, and its resets do not go below zero", async () => {
    const storeId = await createStore("counter");
    const counts = [100, 160, 220, 20, 80];
    await metrics.writeSamples({
      storeId,
      samples: counts.map((value, index) => ({
        name: "requests_total",
        kind: MetricKind.COUNTER,
        value,
        timestamp: at(index * minute),
      })),
    });
    const range = { storeId, start: at(minute), end: at(10 * minute), step: durationFromMs(minute) };
    const [rate] = (await metrics.querySamples(range)).series;
    assert.deepEqual(rate?.values, [1, 1, 20 / 60, 1]);
  });

  test("series are put together by label", async () => {
    const storeId = await createStore("groups");
    await metrics.writeSamples({
      storeId,
      samples: [
        { name: "m", labels: { zone: "a", host: "1" }, value: 1, timestamp: at(0) },
        { name: "m", labels: { zone: "a", host: "2" }, value: 3, timestamp: at(0) },
        { name: "m", labels: { zone: "b", host: "3" }, value: 10, timestamp: at(0) },
      ],
    });
    const { series } = await metrics.querySamples({
      storeId,
      start: at(0),
      end: at(minute),
      step: durationFromMs(minute),
      aggregation: Aggregation.SUM,
      groupBy: ["zone"],
    });
    assert.deepEqual(series.map(({ labels, values }) => [labels.zone, values]).sort(), [
      ["a", [4]],
      ["b", [10]],
    ]);
  });

  test("bad samples are named one by one, and the good ones are kept when asked", async () => {
    const storeId = await createStore("partial");
    const request = {
      storeId,
      series: [{ name: "p", baseTime: at(0), offsetsMs: [0, 1], values: [1] }],
      samples: [
        { name: "ok", value: 1, timestamp: at(0) },
        { name: "1bad", value: 1, timestamp: at(0) },
        { name: "old", value: 1, timestamp: timestampFromMs(Date.now() - 31 * 86_400_000) },
        { name: "nan", value: Number.NaN, timestamp: at(0) },
        { name: "lost", value: 1, timestamp: at(0), storeId: "00000000-0000-4000-8000-000000000000" },
      ],
    };
    const { fields } = await assertFails(
      metrics.writeSamples(request),
      Code.InvalidArgument,
      "INVALID_FIELD",
    );
    assert.deepEqual(fields, [
      "series[0].values",
      "samples[1].name",
      "samples[2].timestamp",
      "samples[3].value",
    ]);
    const answer = await metrics.writeSamples({ ...request, allowPartial: true });
    assert.equal(answer.counts?.total, 7);
    assert.equal(answer.counts?.accepted, 1);
    assert.equal(answer.counts?.rejected, 6);
    assert.deepEqual(
      answer.failures.map(({ plain, index, outcome }) => [plain, index, outcome?.code]),
      [
        [false, 0, "values.count"],
        [true, 1, "string.pattern"],
        [true, 2, "timestamp.range"],
        [true, 3, "double.finite"],
        [true, 4, "NOT_FOUND"],
      ],
    );
    const { series } = await metrics.querySamples({ storeId, start: at(0), end: at(minute) });
    assert.deepEqual(
      series.map(({ name }) => name),
      ["ok"],
    );
  });

  test("an unknown store refuses the whole batch, and nothing is written", async () => {
    const storeId = await createStore("whole");
    const unknown = "00000000-0000-4000-8000-000000000000";
    const call = metrics.writeSamples({
      samples: [
        { name: "m", value: 1, timestamp: at(0), storeId },
        { name: "m", value: 1, timestamp: at(0), storeId: unknown },
      ],
    });
    assert.equal((await assertFails(call, Code.NotFound, "NOT_FOUND")).metadata.id, unknown);
    assert.deepEqual((await metrics.listSeries({ storeId })).series, []);
  });

  test("a key that is bound to a store writes and reads no other", async () => {
    const [own, other] = [await createStore("own"), await createStore("foreign")];
    const { secret } = await createClient(AuthService, session.transport).createApiKey({
      name: "bound",
      scopes: [Scope.METRICS_READ, Scope.METRICS_WRITE],
      storeIds: [own],
    });
    using mine = grpcSession(server.url, { "x-api-key": secret });
    const bound = createClient(MetricsService, mine.transport);
    await bound.writeSamples({ samples: [{ name: "m", value: 1, timestamp: at(0) }] });
    assert.equal(
      (await bound.querySamples({ storeId: own, start: at(0), end: at(minute) })).series.length,
      1,
    );
    const restricted = [
      () => bound.writeSamples({ storeId: other, samples: [{ name: "m", value: 1, timestamp: at(0) }] }),
      () => bound.querySamples({ storeId: other }),
      () => bound.querySamples({}),
      () => bound.listSeries({}),
      () => bound.getStore({ storeId: other }),
    ];
    for (const call of restricted) await assertFails(call(), Code.PermissionDenied, "KEY_RESTRICTED");
    const listed = await bound.listStores({});
    assert.deepEqual(
      listed.stores.map(({ id }) => id),
      [own],
    );
  });

  test("a result beyond the range of a double is refused with a way out", async () => {
    const storeId = await createStore("huge");
    const huge = { name: "m", value: 1.7e308 };
    await metrics.writeSamples({
      storeId,
      samples: [0, 1].map((second) => ({ ...huge, timestamp: at(second * 1_000) })),
    });
    const range = { storeId, start: at(0), end: at(minute), step: durationFromMs(minute) };
    const sum = metrics.querySamples({ ...range, aggregation: Aggregation.SUM });
    assert.deepEqual((await assertFails(sum, Code.InvalidArgument, "INVALID_FIELD")).fields, ["aggregation"]);
    const [max] = (await metrics.querySamples({ ...range, aggregation: Aggregation.MAX })).series;
    assert.deepEqual(max?.values, [1.7e308]);
  });

  test("any order of the same samples gives the same answer", async () => {
    let run = 0;
    const property = fc.asyncProperty(
      fc.uniqueArray(
        fc.tuple(fc.integer({ min: 0, max: 600 }), fc.double({ min: -1e6, max: 1e6, noNaN: true })),
        {
          selector: ([second]) => second,
          minLength: 1,
          maxLength: 40,
        },
      ),
      fc.infiniteStream(fc.nat()),
      async (points, randoms) => {
        const storeId = await createStore(`order-${run++}`);
        const shuffled = points
          .map((point) => ({ point, order: randoms.next().value as number }))
          .sort((a, b) => a.order - b.order)
          .map(({ point }) => point);
        const write = async (name: string, list: typeof points) => {
          for (let from = 0; from < list.length; from += 7) {
            const samples = list
              .slice(from, from + 7)
              .map(([second, value]) => ({ name, value, timestamp: at(second * 1_000) }));
            await metrics.writeSamples({ storeId, samples });
          }
        };
        await Promise.all([write("as_given", points), write("shuffled", shuffled)]);
        const range = { storeId, start: at(0), end: at(11 * minute), step: durationFromMs(minute) };
        for (const aggregation of [Aggregation.LAST, Aggregation.MAX, Aggregation.RATE, Aggregation.P95]) {
          const [given] = (await metrics.querySamples({ ...range, name: "as_given", aggregation })).series;
          const [mixed] = (await metrics.querySamples({ ...range, name: "shuffled", aggregation })).series;
          assert.deepEqual([mixed?.timestampsMs, mixed?.values], [given?.timestampsMs, given?.values]);
        }
      },
    );
    await fc.assert(property, { numRuns: 15 });
  });
});
