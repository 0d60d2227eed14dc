/** A gateway loses its network: its store goes offline, alerts, is acknowledged, recovers, and the history has no gap. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { Machine } from "../examples/gateway/src/readings.ts";
import { createGateway } from "../sdk/src/index.ts";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { AlertState } from "../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { StoreState } from "../server/src/gen/pulsewire/metrics/v1/store_pb.js";
import { WebhooksService } from "../server/src/gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { startProxy } from "./helpers/proxy.ts";
import { startReceiver, verified } from "./helpers/receiver.ts";
import { grpcSession, startTestServer } from "./helpers/server.ts";

/** A second of the real thing is so long here. */
const everyMs = 250;

test("a store whose gateway is cut off is offline, alerts, is acknowledged and recovers, and nothing is missing", async () => {
  await using server = await startTestServer({ PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "on" });
  await using receiver = await startReceiver();
  await using proxy = await startProxy(server.url);
  using session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const metrics = createClient(MetricsService, session.transport);
  const webhooks = createClient(WebhooksService, session.transport);
  const { webhook, secret } = await webhooks.createWebhook({ url: receiver.url, eventTypes: ["alert.*"] });
  assert.ok(webhook);
  const { store } = await metrics.createStore({ name: "Shop 7", expectedInterval: durationFromMs(1_000) });
  const storeId = store?.id ?? "";
  const status = async () => await metrics.getStoreStatus({ storeId });
  assert.deepEqual(
    [(await status()).state, (await status()).reason],
    [StoreState.OFFLINE, "it has never sent a sample"],
  );
  const { rule } = await metrics.createAlertRule({
    spec: {
      name: "no readings",
      storeId,
      metricName: "memory_usage",
      condition: { case: "absence", value: { duration: durationFromMs(2_000) } },
      message: "{{store}} is silent",
    },
  });
  const ruleId = rule?.id ?? "";

  // The gateway, which knows nothing of all this, with a key that may do nothing but write to its store.
  const auth = createClient(AuthService, session.transport);
  const { secret: apiKey } = await auth.createApiKey(
    { name: "gateway", scopes: [5], storeIds: [storeId] },
    { headers: { authorization: `Bearer ${server.tenant.token}` } },
  );
  const sent: number[] = [];
  let stopped = false;
  const run = async () => {
    await using gateway = createGateway({
      endpoint: proxy.url,
      apiKey,
      batch: { maxDelayMs: 50 },
      retry: { initialDelayMs: 50, maxDelayMs: 300 },
      timeoutMs: 1_000,
    });
    const machine = new Machine();
    for (let next = performance.now(); !stopped; next += everyMs) {
      const timestamp = Date.now();
      for (const { name, value, unit, labels = {} } of await machine.read())
        await gateway.metric(name, value, { unit, labels, timestamp });
      sent.push(timestamp);
      await sleep(Math.max(0, next + everyMs - performance.now()));
    }
    await gateway.flush();
  };
  const running = run();
  const until = async (what: string, done: () => Promise<boolean>) => {
    for (const end = Date.now() + 20_000; !(await done()); await sleep(50))
      assert.ok(Date.now() < end, `${what} in vain: ${JSON.stringify((await status()).reason)}`);
  };
  const newest = async (state: AlertState) => {
    const { alerts } = await metrics.listAlerts({ ruleId, states: [state] });
    return alerts[0];
  };

  await until("online", async () => (await status()).state === StoreState.ONLINE);
  const online = await metrics.listStores({ state: StoreState.ONLINE });
  assert.deepEqual(
    online.stores.map(({ id }) => id),
    [storeId],
  );

  await proxy.down();
  await until("late", async () => (await status()).state === StoreState.DEGRADED);
  await until("offline", async () => (await status()).state === StoreState.OFFLINE);
  const offline = await status();
  assert.match(offline.reason, /no sample for \d+ seconds?; one is expected every 1 second/);
  assert.ok(offline.since && offline.lastSampleAt);
  assert.equal(Math.round(timestampMs(offline.since) - timestampMs(offline.lastSampleAt)), 3_000);
  await until("firing", async () => (await newest(AlertState.FIRING)) !== undefined);
  const alertId = (await newest(AlertState.FIRING))?.id ?? "";
  assert.equal((await status()).openAlerts, 1);
  const { alert } = await metrics.acknowledgeAlert({ alertId, note: "looking at the router" });
  assert.equal(alert?.message, "Shop 7 is silent");
  await sleep(1_000);
  await proxy.up();

  await until("resolved", async () => (await newest(AlertState.RESOLVED))?.id === alertId);
  await until("online again", async () => (await status()).state === StoreState.ONLINE);
  const recovered = await status();
  assert.ok(recovered.since && timestampMs(recovered.since) > timestampMs(offline.since));
  stopped = true;
  await running;

  // Every reading of every moment, also of those without a network.
  const [first = 0, last = 0] = [sent[0], sent.at(-1)];
  const { series } = await metrics.querySamples({
    storeId,
    start: timestampFromMs(first),
    end: timestampFromMs(last + 1),
    maxPoints: 100_000,
  });
  const memory = series.find(({ name }) => name === "memory_usage");
  assert.deepEqual(memory?.timestampsMs, sent);
  assert.ok(series.length > 5);

  // And who subscribed was told of each step, in order.
  // A message may come twice, and there are others' alerts.
  const about = () =>
    new Set(
      receiver.received
        .map((one) => verified(secret, one))
        .filter(({ data }) => data.alert_id === alertId)
        .map(({ type }) => type),
    );
  await until("told", async () => about().size >= 3);
  assert.deepEqual([...about()], ["alert.firing", "alert.acknowledged", "alert.resolved"]);
});
