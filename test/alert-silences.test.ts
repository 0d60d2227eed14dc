/** Silences keep notices back, not states; what was kept back is told when they are over. And alerts survive a restart. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { AlertState, Comparison } from "../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { WebhooksService } from "../server/src/gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { dropLease, takeLease } from "../server/src/jobs/lease.ts";
import { TenantEvaluation } from "../server/src/metrics/alerts/evaluation.ts";
import { assertFails } from "./helpers/errors.ts";
import { type Receiver, startReceiver } from "./helpers/receiver.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

const settings = { PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "on" };
const everyState = [1, 2, 3, 4, 5] as AlertState[];

let server: TestServer;
let receiver: Receiver;
let targeted: Receiver;
let session: ReturnType<typeof grpcSession>;
let metrics: Client<typeof MetricsService>;
let targetId: string;
let storeId: string;

before(async () => {
  // It only answers calls: the tests start and stop the workers.
  server = await startTestServer({ ...settings, PULSEWIRE_ROLE: "api" });
  receiver = await startReceiver();
  targeted = await startReceiver();
  session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  metrics = createClient(MetricsService, session.transport);
  const webhooks = createClient(WebhooksService, session.transport);
  await webhooks.createWebhook({ url: receiver.url, eventTypes: ["alert.*"] });
  const { webhook } = await webhooks.createWebhook({ url: targeted.url, eventTypes: ["function.failed"] });
  targetId = webhook?.id ?? "";
  storeId = (await metrics.createStore({ name: "Shop" })).store?.id ?? "";
});
after(async () => {
  session[Symbol.dispose]();
  await server.stop();
  await receiver[Symbol.asyncDispose]();
  await targeted[Symbol.asyncDispose]();
});

const startWorker = () => serve(server.database, { ...settings, PULSEWIRE_ROLE: "worker" });

async function createRule(name: string, more: object = {}): Promise<string> {
  const condition = { case: "threshold", value: { comparison: Comparison.GREATER, value: 5 } } as const;
  const spec = { name, metricName: name, storeId, condition, ...more };
  return (await metrics.createAlertRule({ spec })).rule?.id ?? "";
}

const send = (name: string, value: number, atMs = Date.now()) =>
  metrics.writeSamples({
    storeId,
    samples: [{ name, value, timestamp: timestampFromMs(atMs), labels: { room: "cellar" } }],
  });

async function untilState(ruleId: string, state: AlertState) {
  for (const end = Date.now() + 15_000; ; await sleep(20)) {
    const { alerts } = await metrics.listAlerts({ ruleId, states: everyState });
    if (alerts[0]?.state === state) return alerts[0];
    assert.ok(Date.now() < end, `${alerts[0] && AlertState[alerts[0].state]}`);
  }
}

/** Types of the messages about a rule, in the order of their arrival, once there are so many. */
async function toldOf(ruleId: string, count: number, by = receiver): Promise<string[]> {
  for (const end = Date.now() + 10_000; ; await sleep(20)) {
    const all = by.received
      .map(({ body }) => JSON.parse(body))
      .filter(({ data }) => data.alert_rule_id === ruleId);
    if (all.length >= count) return all.map(({ type }) => type);
    assert.ok(Date.now() < end, `${all.length} of ${count}`);
  }
}

describe("silences", () => {
  test("keep an alert quiet that matches; it is told of when they are over and it still fires", async () => {
    await using _worker = await startWorker();
    const loud = await createRule("loud");
    const quiet = await createRule("quiet");
    const silenceOf = (ruleId: string, ms: number) => ({
      spec: {
        ruleId,
        storeId,
        labels: { room: "cellar" },
        endsAt: timestampFromMs(Date.now() + ms),
        reason: "work on the cellar",
      },
    });
    const { silence } = await metrics.createSilence(silenceOf(quiet, 60_000));
    for (const name of ["loud", "quiet"]) await send(name, 9);
    assert.equal((await untilState(loud, AlertState.FIRING)).silenced, false);
    const silenced = await untilState(quiet, AlertState.FIRING);
    assert.equal(silenced.silenced, true);
    await toldOf(loud, 1);
    // It comes and goes without a word.
    await send("quiet", 1);
    await untilState(quiet, AlertState.RESOLVED);
    await send("quiet", 9);
    await untilState(quiet, AlertState.FIRING);
    await send("loud", 1);
    assert.deepEqual(await toldOf(loud, 2), ["alert.firing", "alert.resolved"]);
    assert.deepEqual(await toldOf(quiet, 0), []);
    const { silences } = await metrics.listSilences({});
    assert.deepEqual(
      silences.map(({ id }) => id),
      [silence?.id],
    );
    await metrics.deleteSilence({ silenceId: silence?.id ?? "" });
    assert.deepEqual(await toldOf(quiet, 1), ["alert.firing"]);
    assert.equal(
      (await metrics.getAlert({ alertId: (await untilState(quiet, AlertState.FIRING)).id })).alert?.version,
      2n,
    );
    // One that ends by itself.
    const short = await createRule("short");
    await metrics.createSilence(silenceOf(short, 1_500));
    await send("short", 9);
    await untilState(short, AlertState.FIRING);
    assert.deepEqual(await toldOf(short, 0), []);
    assert.deepEqual(await toldOf(short, 1), ["alert.firing"]);
  });

  test("name what there is and end in time", async () => {
    const endsAt = timestampFromMs(Date.now() + 1_000);
    const nobody = "00000000-0000-4000-8000-000000000000";
    const reason = "r";
    for (const target of [{ storeId: nobody }, { ruleId: nobody }])
      await assertFails(
        metrics.createSilence({ spec: { ...target, endsAt, reason } }),
        Code.NotFound,
        "NOT_FOUND",
      );
    for (const [startsMs, endsMs] of [
      [0, -1],
      [10_000, 5_000],
      [0, 91 * 86_400_000],
    ] as const) {
      const times = {
        startsAt: timestampFromMs(Date.now() + startsMs),
        endsAt: timestampFromMs(Date.now() + endsMs),
      };
      const failed = metrics.createSilence({ spec: { ...times, reason } });
      assert.deepEqual((await assertFails(failed, Code.InvalidArgument, "INVALID_FIELD")).fields, [
        "spec.ends_at",
      ]);
    }
  });
});

describe("targets of a rule", () => {
  test("are told when it fires, is acknowledged and is over, whatever they subscribed to", async () => {
    await using _worker = await startWorker();
    const ruleId = await createRule("targeted", {
      for: durationFromMs(300),
      recoveryFor: durationFromMs(300),
      targets: [{ target: { case: "webhookId", value: targetId } }],
    });
    await send("targeted", 9);
    const { id: alertId } = await untilState(ruleId, AlertState.FIRING);
    await metrics.acknowledgeAlert({ alertId, note: "seen" });
    await send("targeted", 1);
    await untilState(ruleId, AlertState.RESOLVED);
    assert.deepEqual(await toldOf(ruleId, 3, targeted), [
      "alert.firing",
      "alert.acknowledged",
      "alert.resolved",
    ]);
    // Who asks for all hears of each step that lasts; of the recovering of one that somebody is at nobody does.
    assert.deepEqual((await toldOf(ruleId, 4)).toSorted(), [
      "alert.acknowledged",
      "alert.firing",
      "alert.pending",
      "alert.resolved",
    ]);
  });
});

describe("absence", () => {
  test("samples as often as the rule waits are not missed, though each comes almost as late", async () => {
    const ruleId = await createRule("beat", {
      condition: { case: "absence", value: { duration: durationFromMs(2_000) } },
    });
    const { db } = server.context;
    const { tenantId } = server.tenant;
    const holder = randomUUID();
    const lease = await takeLease(db, `alerts/${tenantId}`, holder, 30_000);
    assert.ok(lease);
    const evaluation = new TenantEvaluation(tenantId);
    // The evaluation's time is the test's: nothing is waited for.
    const startMs = Date.now();
    const alertsAt = async (ms: number) => {
      await evaluation.evaluate(db, lease, new Date(startMs + ms));
      return (await metrics.listAlerts({ ruleId, states: everyState })).alerts;
    };
    for (let at = 0; at <= 10_000; at += 2_000) {
      assert.deepEqual(await alertsAt(at + 900), []);
      await send("beat", 1, startMs + at);
      assert.deepEqual(await alertsAt(at + 1_800), []);
    }
    assert.deepEqual(await alertsAt(12_000), []);
    assert.deepEqual(await alertsAt(13_800), []);
    const [alert] = await alertsAt(13_801);
    assert.equal(alert?.state, AlertState.FIRING);
    assert.equal((alert?.startedAt ? timestampMs(alert.startedAt) : 0) - startMs, 12_000);
    await metrics.deleteAlertRule({ ruleId });
    await dropLease(db, `alerts/${tenantId}`, holder);
  });
});

describe("a restart", () => {
  test("loses no timer: what came due meanwhile counts from when it was due", async () => {
    // Long enough that a slow machine still sees it wait.
    const waitMs = 3_000;
    const ruleId = await createRule("restarted", {
      for: durationFromMs(waitMs),
      recoveryFor: durationFromMs(waitMs),
    });
    const acknowledged = await createRule("acknowledged");
    const silent = await createRule("silent", {
      condition: { case: "absence", value: { duration: durationFromMs(2_000) } },
    });
    const sentAtMs = Date.now();
    {
      await using _worker = await startWorker();
      for (const name of ["restarted", "acknowledged", "silent"]) await send(name, 9, sentAtMs);
      await untilState(ruleId, AlertState.PENDING);
      const { id: alertId } = await untilState(acknowledged, AlertState.FIRING);
      await metrics.acknowledgeAlert({ alertId, until: timestampFromMs(Date.now() + 500) });
    }
    await sleep(sentAtMs + waitMs + 500 - Date.now());
    // Nobody evaluates; a sample comes all the same.
    await send("restarted", 9);
    {
      await using _worker = await startWorker();
      const firing = await untilState(ruleId, AlertState.FIRING);
      assert.equal((firing.firedAt ? timestampMs(firing.firedAt) : 0) - sentAtMs, waitMs);
      const again = await untilState(acknowledged, AlertState.FIRING);
      assert.equal(again.acknowledgement, undefined);
      const { startedAt } = await untilState(silent, AlertState.FIRING);
      assert.equal((startedAt ? timestampMs(startedAt) : 0) - sentAtMs, 2_000);
      await send("restarted", 1);
      await untilState(ruleId, AlertState.RECOVERING);
    }
    await sleep(waitMs + 100);
    await using _worker = await startWorker();
    const over = await untilState(ruleId, AlertState.RESOLVED);
    const { transitions } = await metrics.getAlert({ alertId: over.id });
    assert.deepEqual(
      transitions.map(({ to }) => AlertState[to]),
      ["PENDING", "FIRING", "RECOVERING", "RESOLVED"],
    );
    // The silent series was missed once, and not at its first sample.
    for (const id of [ruleId, silent]) {
      const { alerts } = await metrics.listAlerts({ ruleId: id, states: everyState });
      assert.equal(alerts.length, 1);
    }
  });
});
