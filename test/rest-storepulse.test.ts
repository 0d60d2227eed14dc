/** StorePulse's documented endpoints. Its document names the paths alone; the answers are Pulsewire's own. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startPlatform, type TestPlatform } from "./helpers/platform.ts";
import { assertShape, objectOf, restClient } from "./helpers/rest.ts";

describe("StorePulse over REST", () => {
  let platform: TestPlatform;
  let call: ReturnType<typeof restClient>;
  let admin: ReturnType<typeof restClient>;

  before(async () => {
    platform = await startPlatform();
    call = restClient(platform.url, { "x-api-key": platform.base.tenant.apiKey });
    admin = restClient(platform.url, platform.operator.headers);
  });
  after(() => platform[Symbol.asyncDispose]());

  test("admin: a tenant, its store, a key, statistics", async () => {
    const made = await admin("POST", "/v1/admin/tenants", {
      name: "Chain",
      slug: "chain",
      contactEmail: "owner@chain.example",
    });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    const { id: tenantId } = objectOf(made).tenant as { id: string };
    const store = await admin("POST", `/v1/admin/tenants/${tenantId}/stores`, { name: "Berlin" });
    assert.equal(store.status, 201, JSON.stringify(store.body));
    const stats = await admin("GET", `/v1/admin/tenants/${tenantId}/stats`);
    assert.equal(stats.status, 200);
    assert.equal((objectOf(stats).stats as { stores: string }).stores, "1");
    const key = await admin("POST", "/v1/admin/api-keys/generate", { name: "gateway" });
    assert.equal(key.status, 201);
    assert.match(String(objectOf(key).secret), /^evp_/);
  });

  test("gateways send, dashboards read: stores, status, history, alerts", async () => {
    const made = await call("POST", "/v1/stores", { name: "Paris", expectedInterval: "60s" });
    const { id } = objectOf(made).store as { id: string };
    const sent = await call("POST", "/v1/metrics/batch", {
      storeId: id,
      samples: [{ name: "temperature", value: 21.5, labels: { room: "cold" } }],
    });
    assert.equal(sent.status, 200, JSON.stringify(sent.body));
    assert.equal((objectOf(sent).counts as { accepted: number }).accepted, 1);
    const listed = await call("GET", "/v1/stores");
    assertShape(listed.body, { stores: [{ id, name: "Paris" }], nextPageToken: "" }, false);
    const status = await call("GET", `/v1/stores/${id}/status`);
    assert.equal(status.status, 200);
    const history = await call("GET", `/v1/stores/${id}/metrics?name=temperature`);
    assert.equal(history.status, 200);
    assertShape(history.body, { series: [{ storeId: id, name: "temperature", values: [21.5] }] }, false);
    const alerts = await call("GET", "/v1/alerts");
    assert.deepEqual([alerts.status, objectOf(alerts).alerts], [200, []]);
    const unknown = await call("POST", `/v1/alerts/${id}/acknowledge`, { note: "seen" });
    assert.equal(unknown.status, 404);
    assert.equal((await call("GET", "/health")).status, 200);
  });
});
