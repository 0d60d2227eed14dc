import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import { withTenant } from "../server/src/db/tenant.ts";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { samplesChannel, tenantsIn } from "../server/src/metrics/activity.ts";
import { readSamples, selectSeries } from "../server/src/metrics/read.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const base = Math.floor(Date.now() / 1_000) * 1_000 - 60_000;

describe("samples for who computes with them", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let metrics: Client<typeof MetricsService>;
  const inTenant = <T>(fn: Parameters<typeof withTenant<T>>[2]) =>
    withTenant(server.context.db, server.tenant.tenantId, fn);

  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    metrics = createClient(MetricsService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("a write is told on the bus once, and the store's last sample is known soon after", async () => {
    const { tenantId } = server.tenant;
    const storeId = (await metrics.createStore({ name: "heard" })).store?.id ?? "";
    const told = new Promise<string>((resolve) => {
      const end = server.context.bus.subscribe(samplesChannel, (message) => {
        end();
        resolve(message);
      });
    });
    const sample = (second: number) => ({
      name: "m",
      value: second,
      timestamp: timestampFromMs(base + second * 1_000),
    });
    await Promise.all(
      [5, 2, 9, 1].map((second) => metrics.writeSamples({ storeId, samples: [sample(second)] })),
    );
    assert.deepEqual(tenantsIn(await told), [tenantId]);
    const known = async () => {
      const rows = await inTenant((trx) => trx.selectFrom("store_activity").selectAll().execute());
      return rows.map(({ store_id, last_sample_at }) => [store_id, last_sample_at.getTime()]);
    };
    for (const end = Date.now() + 5_000; (await known()).length === 0 && Date.now() < end; await sleep(20));
    assert.deepEqual(await known(), [[storeId, base + 9_000]]);
  });

  test("series are selected by store, name, labels and id, and read oldest first", async () => {
    const { tenantId } = server.tenant;
    const [one, two] = await Promise.all(
      ["one", "two"].map(async (name) => (await metrics.createStore({ name })).store?.id ?? ""),
    );
    const write = (storeId: string, name: string, zone: string, offsetsMs: number[]) =>
      metrics.writeSamples({
        storeId,
        series: [{ name, labels: { zone }, baseTime: timestampFromMs(base), offsetsMs, values: offsetsMs }],
      });
    await write(one as string, "cpu", "a", [3_000, 1_000, 2_000]);
    await write(one as string, "cpu", "b", [500]);
    await write(two as string, "cpu", "a", [700, 800]);
    await write(one as string, "mem", "a", [900]);
    const read = (selector: Parameters<typeof readSamples>[2], from = 0, to = 60_000) =>
      inTenant(async (trx) =>
        (await readSamples(trx, tenantId, selector, base + from, base + to)).map(
          ({ series, timestampsMs, values }) => [
            series.name,
            series.labels.zone,
            [...timestampsMs].map((ms) => ms - base),
            [...values],
          ],
        ),
      );
    const everything = [1_000, 2_000, 3_000];
    assert.deepEqual(await read({ storeId: one as string, name: "cpu", labels: { zone: "a" } }), [
      ["cpu", "a", everything, everything],
    ]);
    assert.deepEqual(await read({ storeId: one as string, labels: { zone: "a" } }, 1_000, 3_000), [
      ["cpu", "a", [1_000, 2_000], [1_000, 2_000]],
    ]);
    const series = await inTenant((trx) => selectSeries(trx, tenantId, { name: "cpu" }));
    assert.equal(series.length, 3);
    const ids = series.map(({ id }) => id);
    assert.equal((await read({ seriesIds: ids.slice(0, 2) })).length, 2);
    assert.deepEqual(await read({ seriesIds: [] }), []);
  });
});
