import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import { AuditActorType } from "../server/src/gen/pulsewire/auth/v1/audit_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { MetricKind } from "../server/src/gen/pulsewire/metrics/v1/sample_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { bearer } from "./helpers/platform.ts";
import { remoteWrite } from "./helpers/remote-write.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const base = Date.now() - 600_000;

describe("Prometheus remote write", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let metrics: Client<typeof MetricsService>;
  let auth: Client<typeof AuthService>;
  let key: Record<string, string>;

  before(async () => {
    server = await startTestServer({ PULSEWIRE_MAX_BATCH_SAMPLES: "10" });
    key = { "x-api-key": server.tenant.apiKey };
    session = grpcSession(server.url, key);
    metrics = createClient(MetricsService, session.transport);
    auth = createClient(AuthService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  async function storeNamed(name: string): Promise<string> {
    const { stores } = await metrics.listStores({ nameContains: name });
    const [found, ...others] = stores.filter((store) => store.name === name);
    assert.ok(found, `there is no store '${name}'`);
    assert.equal(others.length, 0);
    return found.id;
  }
  async function readBack(storeId: string) {
    const { series } = await metrics.querySamples({
      storeId,
      start: timestampFromMs(base),
      end: timestampFromMs(base + 300_000),
    });
    const listed = await metrics.listSeries({ storeId });
    return series.map(({ name, labels, timestampsMs, values }) => {
      const { kind, unit } = listed.series.find((each) => each.name === name) ?? {};
      return { name, labels, kind, unit, samples: timestampsMs.map((time, at) => [time - base, values[at]]) };
    });
  }
  const samples = (...values: number[]) =>
    values.map((value, index) => [base + index * 1_000, value] as const);
  const bound = async (storeIds: string[]) => {
    const { secret } = await auth.createApiKey(
      { name: `bound to ${storeIds}`, scopes: [Scope.METRICS_WRITE], storeIds },
      bearer(server.tenant.token),
    );
    return { "x-api-key": secret };
  };

  for (const version of ["0.1.0", "2.0.0"] as const) {
    test(`${version}: what is written is read back equal, in the store of its job`, async () => {
      const job = `node ${version}`;
      const values = Array.from({ length: 23 }, (_, index) => index * 1.5);
      const sent = [
        {
          labels: { __name__: "http_requests_total", job, instance: "a:1", code: "200" },
          samples: samples(...values),
          type: 1,
          unit: "requests",
        },
        { labels: { __name__: "temperature", job, instance: "a:1" }, samples: samples(-4.25), type: 2 },
      ];
      const answer = await remoteWrite(server.url, version, sent, key);
      assert.equal(answer.status, 204, await answer.text());
      assert.equal(answer.headers.get("x-prometheus-remote-write-samples-written"), "24");
      assert.deepEqual(await readBack(await storeNamed(job)), [
        {
          name: "http_requests_total",
          labels: { job, instance: "a:1", code: "200" },
          kind: MetricKind.COUNTER,
          unit: version === "2.0.0" ? "requests" : "",
          samples: values.map((value, index) => [index * 1_000, value]),
        },
        {
          name: "temperature",
          labels: { job, instance: "a:1" },
          kind: MetricKind.GAUGE,
          unit: "",
          samples: [[0, -4.25]],
        },
      ]);
    });

    test(`${version}: what cannot be written is told with 400, and the rest is written`, async () => {
      const job = `mixed ${version}`;
      const sent = [
        { labels: { __name__: "good", job }, samples: samples(1, Number.NaN, 2) },
        { labels: { __name__: "old", job }, samples: [[base - 31 * 86_400_000, 1] as const, ...samples(5)] },
        { labels: { __name__: "endless", job }, samples: samples(Number.POSITIVE_INFINITY) },
        { labels: { job }, samples: samples(1) },
        { labels: { __name__: "nowhere" }, samples: samples(1) },
      ];
      const answer = await remoteWrite(server.url, version, sent, key);
      assert.equal(answer.status, 400);
      const told = await answer.text();
      assert.match(told, /^3 samples written, 4 refused: /);
      assert.equal(answer.headers.get("x-prometheus-remote-write-samples-written"), "3");
      const read = await readBack(await storeNamed(job));
      assert.deepEqual(
        read.map(({ name, samples }) => [name, samples]),
        [
          ["good", [[0, 1], [2_000, 2]]], // biome-ignore format: pairs
          ["old", [[0, 5]]],
        ],
      );
    });
  }

  test("the header names a store by its name or id; a key that is bound to one needs no name", async () => {
    const { store } = await metrics.createStore({ name: "shop 1" });
    const id = store?.id ?? "";
    const one = await bound([id]);
    const ways: Record<string, Record<string, string>> = {
      name: { ...key, "x-pulsewire-store": "shop 1" },
      id: { ...key, "x-pulsewire-store": id },
      key: one,
    };
    for (const [name, headers] of Object.entries(ways)) {
      const sent = [{ labels: { __name__: name, job: "unused" }, samples: samples(1) }];
      const answer = await remoteWrite(server.url, "0.1.0", sent, headers);
      assert.equal(answer.status, 204, await answer.text());
    }
    assert.deepEqual(
      (await readBack(id)).map(({ name }) => name),
      ["id", "key", "name"],
    );
    const foreign = { ...one, "x-pulsewire-store": "node 0.1.0" };
    const refused = await remoteWrite(
      server.url,
      "0.1.0",
      [{ labels: { __name__: "m" }, samples: samples(1) }],
      foreign,
    );
    assert.equal(refused.status, 400);
    assert.match(await refused.text(), /bound to other stores/);
    const unknown = { ...one, "x-pulsewire-store": "not made by a bound key" };
    const sent = [{ labels: { __name__: "m" }, samples: samples(1) }];
    assert.match(await (await remoteWrite(server.url, "0.1.0", sent, unknown)).text(), /bound to other/);
    const { stores } = await metrics.listStores({ nameContains: "bound key" });
    assert.equal(stores.length, 0);
  });

  test("a store that was deleted is made again", async () => {
    const sent = [{ labels: { __name__: "m", job: "gone" }, samples: samples(1) }];
    assert.equal((await remoteWrite(server.url, "0.1.0", sent, key)).status, 204);
    const first = await storeNamed("gone");
    await metrics.deleteStore({ storeId: first });
    assert.equal((await remoteWrite(server.url, "0.1.0", sent, key)).status, 204);
    const second = await storeNamed("gone");
    assert.notEqual(second, first);
    assert.equal((await readBack(second)).length, 1);
  });

  test("senders that come together make one store", async () => {
    const sent = [{ labels: { __name__: "m", job: "rushed" }, samples: samples(1) }];
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => remoteWrite(server.url, "2.0.0", sent, key)),
    );
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([204]));
    const made = await storeNamed("rushed");
    // And the audit log has it once, as if it had been made by a call.
    const { auditEntries } = await auth.listAuditEntries({ pageSize: 1000 }, bearer(server.tenant.token));
    const about = auditEntries.filter(({ resourceId }) => resourceId === made);
    assert.deepEqual(
      about.map(({ method, resourceType, actor }) => [method, resourceType, actor?.type]),
      [["pulsewire.metrics.v1.MetricsService/CreateStore", "store", AuditActorType.API_KEY]],
    );
    assert.deepEqual(about[0]?.details?.name, { new: "rushed" });
  });

  test("credentials are those of all calls: a key, a token, a key as the password of basic authentication", async () => {
    const sent = [{ labels: { __name__: "m", job: "who" }, samples: samples(1) }];
    const status = async (headers: Record<string, string>) =>
      (await remoteWrite(server.url, "0.1.0", sent, headers)).status;
    const { apiKey, token } = server.tenant;
    const basic = (password: string) => `Basic ${Buffer.from(`prometheus:${password}`).toString("base64")}`;
    assert.equal(await status({ authorization: `Bearer ${apiKey}` }), 204);
    assert.equal(await status({ authorization: `Bearer ${token}` }), 204);
    assert.equal(await status({ authorization: basic(apiKey) }), 204);
    assert.equal(await status({ authorization: basic("something else") }), 401);
    assert.equal(await status({ authorization: basic(`${apiKey}x`) }), 401);
    assert.equal(await status({}), 401);
    const { secret } = await auth.createApiKey(
      { name: "reader", scopes: [Scope.METRICS_READ] },
      bearer(server.tenant.token),
    );
    assert.equal(await status({ "x-api-key": secret }), 403);
  });

  test("another tenant's store of the same name is another store", async () => {
    const other = await server.register("second");
    const headers = { "x-api-key": other.apiKey };
    const sent = [{ labels: { __name__: "theirs", job: "node 0.1.0" }, samples: samples(1) }];
    assert.equal((await remoteWrite(server.url, "0.1.0", sent, headers)).status, 204);
    const own = await storeNamed("node 0.1.0");
    assert.ok((await readBack(own)).every(({ name }) => name !== "theirs"));
    const stolen = await remoteWrite(server.url, "0.1.0", sent, { ...headers, "x-pulsewire-store": own });
    assert.equal(stolen.status, 400);
    assert.match(await stolen.text(), /no store/);
    assert.ok((await readBack(own)).every(({ name }) => name !== "theirs"));
  });

  test("what is no remote write is refused with the reason", async () => {
    const post = async (headers: Record<string, string>, body: string) => {
      const answer = await fetch(`${server.url}/api/v1/write`, {
        method: "POST",
        headers: { ...key, ...headers },
        body,
      });
      return [answer.status, await answer.text()] as const;
    };
    const proto = { "content-type": "application/x-protobuf" };
    const [noType, typeReason] = await post({ "content-type": "application/json" }, "{}");
    assert.equal(noType, 415);
    assert.match(typeReason, /application\/x-protobuf/);
    assert.equal((await post(proto, "x"))[0], 415);
    const [broken, reason] = await post({ ...proto, "content-encoding": "snappy" }, "\u0005hello");
    assert.equal(broken, 400);
    assert.match(reason, /no remote write/);
    assert.equal(
      (await post({ ...proto, "content-encoding": "snappy", "x-api-key": "evp_no" }, "x"))[0],
      401,
    );
    const long = Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]).toString("latin1");
    assert.equal((await post({ ...proto, "content-encoding": "snappy" }, long))[0], 400);
  });

  test("a tenant that may have no more stores hears so", async () => {
    const tenant = await server.register("small");
    await server.database.superuser.query(
      `update tenants set limits = limits || '{"stores": 1}'::jsonb where id = $1`,
      [tenant.tenantId],
    );
    const headers = { "x-api-key": tenant.apiKey };
    const from = (job: string) => [{ labels: { __name__: "m", job }, samples: samples(1) }];
    assert.equal((await remoteWrite(server.url, "0.1.0", from("first"), headers)).status, 204);
    const refused = await remoteWrite(server.url, "0.1.0", from("second"), headers);
    assert.equal(refused.status, 400);
    assert.match(await refused.text(), /may have 1 stores/);
    assert.equal((await remoteWrite(server.url, "0.1.0", from("first"), headers)).status, 204);
  });
});
