import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { durationFromMs, durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const nowMs = Date.now();

describe("stores", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let metrics: Client<typeof MetricsService>;
  const createStore = async (name: string) => (await metrics.createStore({ name })).store?.id ?? "";
  const sample = (name: string, value = 1) => ({ name, value, timestamp: timestampFromMs(nowMs) });

  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    metrics = createClient(MetricsService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("what the mask names is changed, the rest stays, and every change has a new etag", async () => {
    const made = await metrics.createStore({ name: "north", description: "old", labels: { city: "Köln" } });
    const storeId = made.store?.id ?? "";
    const { store: described } = await metrics.updateStore({
      storeId,
      updateMask: { paths: ["description", "expected_interval"] },
      description: "new",
      expectedInterval: durationFromMs(5_000),
      name: "not named in the mask",
      etag: made.store?.etag ?? "",
    });
    assert.deepEqual(
      [described?.name, described?.description, described?.labels],
      ["north", "new", { city: "Köln" }],
    );
    assert.equal(described?.expectedInterval && durationMs(described.expectedInterval), 5_000);
    assert.notEqual(described?.etag, made.store?.etag);
    const stale = metrics.updateStore({
      storeId,
      updateMask: { paths: ["labels"] },
      labels: {},
      etag: made.store?.etag ?? "",
    });
    await assertFails(stale, Code.Aborted, "ETAG_MISMATCH");
    const { store: renamed } = await metrics.updateStore({
      storeId,
      updateMask: { paths: ["name", "labels"] },
      name: "south",
      labels: { city: "Bonn" },
    });
    assert.deepEqual([renamed?.name, renamed?.labels], ["south", { city: "Bonn" }]);
    assert.deepEqual((await metrics.getStore({ storeId })).store, renamed);
  });

  test("a change that cannot be is refused", async () => {
    const storeId = await createStore("taken-1");
    await createStore("taken-2");
    const refused = (request: Parameters<typeof metrics.updateStore>[0]) =>
      metrics.updateStore({ storeId, ...request });
    await assertFails(
      refused({ updateMask: { paths: ["name"] }, name: "taken-2" }),
      Code.AlreadyExists,
      "ALREADY_EXISTS",
    );
    const unnamed = refused({ updateMask: { paths: ["name"] } });
    assert.deepEqual((await assertFails(unnamed, Code.InvalidArgument, "INVALID_FIELD")).fields, ["name"]);
    const masked = refused({ updateMask: { paths: ["etag"] } });
    assert.deepEqual((await assertFails(masked, Code.InvalidArgument, "INVALID_FIELD")).fields, [
      "update_mask",
    ]);
    const nobody = refused({
      storeId: "00000000-0000-4000-8000-000000000000",
      updateMask: { paths: ["description"] },
    });
    await assertFails(nobody, Code.NotFound, "NOT_FOUND");
  });

  test("a deleted store is gone with its series and samples, and takes no more, however warm its series are", async () => {
    const [storeId, other] = [await createStore("closing"), await createStore("staying")];
    const write = (allowPartial: boolean) =>
      metrics.writeSamples({
        allowPartial,
        samples: [
          { ...sample("m"), storeId },
          { ...sample("m"), storeId: other },
        ],
      });
    await write(false);
    await metrics.deleteStore({ storeId });
    for (const call of [
      () => metrics.getStore({ storeId }),
      () => metrics.querySamples({ storeId }),
      () => metrics.deleteStore({ storeId }),
      () => write(false),
    ]) {
      await assertFails(call(), Code.NotFound, "NOT_FOUND");
    }
    const { counts, failures } = await write(true);
    assert.deepEqual([counts?.accepted, counts?.rejected], [1, 1]);
    assert.deepEqual(
      failures.map(({ index, plain, outcome }) => [index, plain, outcome?.code]),
      [[0, true, "NOT_FOUND"]],
    );
    assert.deepEqual((await metrics.listSeries({ storeId })).series, []);
    const { series } = await metrics.querySamples({ name: "m", end: timestampFromMs(nowMs + 1_000) });
    assert.deepEqual(
      series.map((points) => points.storeId),
      [other],
    );
    // The name is free again.
    await createStore("closing");
  });

  test("a key that is bound to a store changes no other", async () => {
    const [own, other] = [await createStore("mine"), await createStore("theirs")];
    const { secret } = await createClient(AuthService, session.transport).createApiKey({
      name: "bound",
      scopes: [Scope.METRICS_ADMIN],
      storeIds: [own],
    });
    using mine = grpcSession(server.url, { "x-api-key": secret });
    const bound = createClient(MetricsService, mine.transport);
    const change = { updateMask: { paths: ["description"] }, description: "changed" };
    await bound.updateStore({ storeId: own, ...change });
    const beyond = [bound.updateStore({ storeId: other, ...change }), bound.deleteStore({ storeId: other })];
    await Promise.all(beyond.map((call) => assertFails(call, Code.PermissionDenied, "KEY_RESTRICTED")));
  });
});

test("a limit of series refuses new series, and says so; known ones are taken", async () => {
  await using server = await startTestServer({ PULSEWIRE_TENANT_LIMITS: "series=3" });
  using session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const metrics = createClient(MetricsService, session.transport);
  const storeId = (await metrics.createStore({ name: "limited" })).store?.id ?? "";
  const write = (names: string[], allowPartial = false) =>
    metrics.writeSamples({
      storeId,
      allowPartial,
      samples: names.map((name) => ({ name, value: 1, timestamp: timestampFromMs(nowMs) })),
    });
  assert.equal((await write(["a", "b"])).newSeries, 2);
  const whole = await assertFails(write(["a", "c", "d"]), Code.ResourceExhausted, "TENANT_LIMIT");
  assert.equal(whole.metadata.limit, "series");
  assert.equal((await metrics.listSeries({ storeId })).series.length, 2);
  const part = await write(["d", "a", "e", "d"], true);
  assert.deepEqual([part.counts?.accepted, part.counts?.rejected, part.newSeries], [3, 1, 1]);
  assert.deepEqual(
    part.failures.map(({ index, outcome }) => [index, outcome?.code, outcome?.field]),
    [[2, "TENANT_LIMIT", "labels"]],
  );
  assert.equal((await write(["a", "b", "d"])).counts?.accepted, 3);
  // Many at once: one more of all them together must not slip in.
  const racing = await Promise.allSettled(Array.from({ length: 8 }, (_, n) => write([`new${n}`])));
  assert.ok(racing.every(({ status }) => status === "rejected"));
  assert.equal((await metrics.listSeries({ storeId })).series.length, 3);
});
