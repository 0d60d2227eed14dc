/** Alerts: what raises and ends them, acknowledging, watching, and who evaluates. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { AlertSeverity, AlertState, Comparison } from "../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { removeOldAlerts } from "../server/src/metrics/alerts/retention.ts";
import { above, everyState, startAlertServer } from "./helpers/alerts.ts";
import { assertFails } from "./helpers/errors.ts";
import { serve } from "./helpers/server.ts";

const setting = await startAlertServer();
after(() => setting[Symbol.asyncDispose]());
const { server, metrics, alertsUntil, untilState, createStore, createRule, send, historyOf } = setting;

describe("alerts", () => {
  test("fire soon after the sample that crosses, recover past the recovery threshold, and keep their history", async () => {
    const storeId = await createStore("Fridge");
    const ruleId = await createRule({
      name: "too warm",
      metricName: "temperature",
      storeId,
      condition: above(8, 6),
      severity: AlertSeverity.CRITICAL,
      message: "{{store}}: {{metric}} in {{labels.room}} is {{ value }}{{labels.none}}",
    });
    const labels = { room: "cellar" };
    await send(storeId, "temperature", 5, labels);
    const sentAtMs = Date.now();
    await send(storeId, "temperature", 9.5, labels, sentAtMs);
    const firing = await untilState(ruleId, AlertState.FIRING);
    assert.ok(Date.now() - sentAtMs < 2_000, `fired after ${Date.now() - sentAtMs} ms`);
    assert.equal(firing.message, "Fridge: temperature in cellar is 9.5");
    assert.equal(firing.value, 9.5);
    assert.equal(firing.severity, AlertSeverity.CRITICAL);
    assert.equal(firing.startedAt && timestampMs(firing.startedAt), sentAtMs);
    assert.deepEqual(firing.labels, labels);
    // Between the thresholds nothing changes.
    await send(storeId, "temperature", 7, labels);
    await send(storeId, "temperature", 6, labels);
    const resolved = await untilState(ruleId, AlertState.RESOLVED);
    assert.equal(resolved.id, firing.id);
    assert.ok(resolved.resolvedAt && resolved.firedAt);
    assert.deepEqual(await historyOf(firing.id), [
      "UNSPECIFIED → PENDING",
      "PENDING → FIRING",
      "FIRING → RECOVERING",
      "RECOVERING → RESOLVED",
    ]);
    assert.equal(resolved.version, 4n);
    // A second breach is a second alert.
    await send(storeId, "temperature", 10, labels);
    const alerts = await alertsUntil(
      ruleId,
      (all) => all.length === 2 && all[0]?.state === AlertState.FIRING,
    );
    assert.notEqual(alerts[0]?.id, firing.id);
  });

  test("wait for `for` and `recovery_for`, by the clock and without further samples", async () => {
    const storeId = await createStore("Waiting");
    const ruleId = await createRule({
      name: "patient",
      metricName: "load",
      storeId,
      condition: above(1),
      for: durationFromMs(600),
      recoveryFor: durationFromMs(600),
    });
    const sentAtMs = Date.now();
    await send(storeId, "load", 2, {}, sentAtMs);
    await untilState(ruleId, AlertState.PENDING);
    const firing = await untilState(ruleId, AlertState.FIRING);
    assert.equal(firing.firedAt && timestampMs(firing.firedAt), sentAtMs + 600);
    await send(storeId, "load", 0);
    await untilState(ruleId, AlertState.RECOVERING);
    await untilState(ruleId, AlertState.RESOLVED);
  });

  test("of absence: a store that falls silent, one that never sent, and a sample that ends it", async () => {
    const storeId = await createStore("Heart");
    const neverId = await createStore("Never");
    await send(storeId, "heartbeat", 1);
    const ruleId = await createRule({
      name: "silent",
      metricName: "heartbeat",
      condition: { case: "absence", value: { duration: durationFromMs(1_000) } },
    });
    const both = await alertsUntil(ruleId, (all) =>
      [storeId, neverId].every((id) =>
        all.some((one) => one.storeId === id && one.state === AlertState.FIRING),
      ),
    );
    assert.ok(
      both.every(({ value, message }) => value === undefined && /no sample for 1 seconds/.test(message)),
    );
    await send(neverId, "heartbeat", 1);
    await alertsUntil(ruleId, (all) =>
      all.some((one) => one.storeId === neverId && one.state === AlertState.RESOLVED),
    );
    // And then it is missed as a series.
    await alertsUntil(
      ruleId,
      (all) => all.filter((one) => one.storeId === neverId && one.state === AlertState.FIRING).length === 1,
    );
    await metrics.deleteAlertRule({ ruleId });
    const { alerts } = await metrics.listAlerts({ ruleId });
    assert.deepEqual(alerts, []);
  });

  test("of a rate of change: of a counter, its restart not counted", async () => {
    const storeId = await createStore("Counting");
    const ruleId = await createRule({
      name: "too fast",
      metricName: "requests_total",
      storeId,
      condition: {
        case: "rateOfChange",
        value: { comparison: Comparison.GREATER, valuePerSecond: 50, window: durationFromMs(10_000) },
      },
    });
    const nowMs = Date.now();
    const counts = [0, 100, 200, 50, 150, 2_000];
    await metrics.writeSamples({
      storeId,
      samples: counts.map((value, index) => ({
        name: "requests_total",
        kind: 2,
        value,
        timestamp: timestampFromMs(nowMs - 25_000 + index * 5_000),
      })),
    });
    const alert = await untilState(ruleId, AlertState.FIRING);
    assert.equal(alert.startedAt && timestampMs(alert.startedAt), nowMs);
    assert.equal(alert.value, 195);
  });

  test("are each series' own, only of those that the rule is about", async () => {
    const storeId = await createStore("Many");
    const ruleId = await createRule({
      name: "disks of the shop",
      metricName: "disk_used",
      labels: { site: "shop" },
      condition: above(90),
    });
    const samples = ["a", "b", "c"].map((disk) => ({
      name: "disk_used",
      labels: { disk, site: disk === "c" ? "office" : "shop" },
      value: 95,
    }));
    await metrics.writeSamples({ storeId, samples });
    const alerts = await alertsUntil(ruleId, (all) => all.length >= 2);
    assert.deepEqual(alerts.map(({ labels }) => labels.disk).sort(), ["a", "b"]);
    await sleep(600);
    assert.equal((await metrics.listAlerts({ ruleId })).alerts.length, 2);
  });

  test("of samples that are read late or twice: the newest sample decides, once", async () => {
    const storeId = await createStore("Late");
    const ruleId = await createRule({ name: "late", metricName: "late", storeId, condition: above(5) });
    const nowMs = Date.now();
    await send(storeId, "late", 1, {}, nowMs);
    await sleep(700);
    await send(storeId, "late", 9, {}, nowMs - 5_000);
    await sleep(800);
    assert.deepEqual((await metrics.listAlerts({ ruleId, states: everyState })).alerts, []);
    // Measured in the future: it counts when its time has come.
    await send(storeId, "late", 9, {}, Date.now() + 1_500);
    await sleep(700);
    assert.deepEqual((await metrics.listAlerts({ ruleId, states: everyState })).alerts, []);
    await untilState(ruleId, AlertState.FIRING);
    // A backlog is evaluated sample by sample.
    const other = await createStore("Backlog");
    const backlog = await createRule({
      name: "backlog",
      metricName: "late",
      storeId: other,
      condition: above(5),
    });
    await metrics.writeSamples({
      storeId: other,
      samples: [1, 9, 1, 9, 1].map((value, index) => ({
        name: "late",
        value,
        timestamp: timestampFromMs(nowMs - 10_000 + index * 1_000),
      })),
    });
    const alerts = await alertsUntil(backlog, (all) => all.length === 2);
    assert.ok(alerts.every(({ state }) => state === AlertState.RESOLVED));
  });
});

describe("acknowledging", () => {
  test("says who is at it; until when; then the alert fires again", async () => {
    const storeId = await createStore("Acknowledged");
    const ruleId = await createRule({
      name: "to be acknowledged",
      metricName: "a",
      storeId,
      condition: above(1),
    });
    await send(storeId, "a", 2);
    const { id: alertId } = await untilState(ruleId, AlertState.FIRING);
    const until = timestampFromMs(Date.now() + 700);
    const { alert } = await metrics.acknowledgeAlert({ alertId, note: "on my way", until });
    assert.equal(alert?.state, AlertState.ACKNOWLEDGED);
    assert.equal(alert?.acknowledgement?.note, "on my way");
    assert.ok(alert?.acknowledgement?.by);
    const again = await untilState(ruleId, AlertState.FIRING);
    assert.equal(again.acknowledgement, undefined);
    // For good, and once more with another note: a version, but no change of state.
    await metrics.acknowledgeAlert({ alertId });
    await metrics.acknowledgeAlert({ alertId, note: "still at it" });
    await send(storeId, "a", 0);
    const over = await untilState(ruleId, AlertState.RESOLVED);
    assert.equal(over.acknowledgement?.note, "still at it");
    assert.deepEqual(await historyOf(alertId), [
      "UNSPECIFIED → PENDING",
      "PENDING → FIRING",
      "FIRING → ACKNOWLEDGED",
      "ACKNOWLEDGED → FIRING",
      "FIRING → ACKNOWLEDGED",
      "ACKNOWLEDGED → RECOVERING",
      "RECOVERING → RESOLVED",
    ]);
    await assertFails(metrics.acknowledgeAlert({ alertId }), Code.FailedPrecondition, "FAILED_PRECONDITION");
    const past = metrics.acknowledgeAlert({ alertId, until: timestampFromMs(Date.now() - 1) });
    assert.deepEqual((await assertFails(past, Code.InvalidArgument, "INVALID_FIELD")).fields, ["until"]);
  });
});

describe("watching", () => {
  interface Seen {
    readonly versions: string[];
    cursor: string;
  }

  /** Watches until `done`, then leaves. */
  async function watch(cursor: string, done: (seen: Seen) => boolean, storeId = ""): Promise<Seen> {
    const leave = new AbortController();
    const seen: Seen = { versions: [], cursor };
    const timer = setTimeout(() => leave.abort(), 15_000);
    try {
      for await (const message of metrics.watchAlerts({ cursor, storeId }, { signal: leave.signal })) {
        seen.cursor = message.cursor;
        for (const alert of message.alerts) seen.versions.push(`${alert.labels.n}/${alert.version}`);
        if (done(seen)) break;
      }
    } finally {
      clearTimeout(timer);
      leave.abort();
    }
    return seen;
  }

  test("gives open alerts, then every version once, across reconnects", async () => {
    const storeId = await createStore("Watched");
    const ruleId = await createRule({ name: "watched", metricName: "w", storeId, condition: above(5) });
    const count = 30;
    const set = (value: number) =>
      metrics.writeSamples({
        storeId,
        samples: Array.from({ length: count }, (_, n) => ({ name: "w", value, labels: { n: String(n) } })),
      });
    await set(9);
    await alertsUntil(
      ruleId,
      (all) => all.filter(({ state }) => state === AlertState.FIRING).length === count,
    );
    const first = await watch("", ({ versions }) => versions.length >= count, storeId);
    assert.deepEqual(first.versions.toSorted(), Array.from({ length: count }, (_, n) => `${n}/2`).sort());
    await set(0);
    await alertsUntil(ruleId, (all) => all.every(({ state }) => state === AlertState.RESOLVED));
    await set(9);
    await alertsUntil(ruleId, (all) => all.length === 2 * count);
    // Leaves after each message, and goes on where it left.
    const all: string[] = [];
    let { cursor } = first;
    while (all.length < 4 * count) {
      const part = await watch(cursor, ({ versions }) => versions.length > 0, storeId);
      all.push(...part.versions);
      cursor = part.cursor;
    }
    const expected = Array.from({ length: count }, (_, n) => [`${n}/3`, `${n}/4`, `${n}/1`, `${n}/2`]).flat();
    assert.deepEqual(all.toSorted(), expected.sort());
    for (let n = 0; n < count; n++)
      assert.deepEqual(
        all.filter((one) => one.startsWith(`${n}/`)),
        [`${n}/3`, `${n}/4`, `${n}/1`, `${n}/2`],
      );
    await assertFails(
      watch("none", () => true),
      Code.InvalidArgument,
      "INVALID_CURSOR",
    );
    await assertFails(
      watch(cursor, () => true),
      Code.InvalidArgument,
      "INVALID_CURSOR",
    );
  });

  test("ends with CURSOR_EXPIRED where what follows was removed for its age", async () => {
    const storeId = await createStore("Old");
    const { cursor } = await watch("", () => true, storeId);
    const ruleId = await createRule({ name: "old", metricName: "old", storeId, condition: above(5) });
    await send(storeId, "old", 9);
    await untilState(ruleId, AlertState.FIRING);
    await send(storeId, "old", 1);
    const { id } = await untilState(ruleId, AlertState.RESOLVED);
    await removeOldAlerts(server.context.db, 1);
    assert.ok((await metrics.getAlert({ alertId: id })).alert);
    await server.database.superuser.query(
      "update alerts set resolved_at = now() - interval '2 days' where id = $1",
      [id],
    );
    await removeOldAlerts(server.context.db, 1);
    await assertFails(metrics.getAlert({ alertId: id }), Code.NotFound, "NOT_FOUND");
    await assertFails(
      watch(cursor, () => false, storeId),
      Code.OutOfRange,
      "CURSOR_EXPIRED",
    );
  });

  test("tells of a change at once", async () => {
    const storeId = await createStore("Live");
    await createRule({ name: "live", metricName: "live", storeId, condition: above(5) });
    let sentAtMs = 0;
    const seen = await watch(
      "",
      ({ versions }) => {
        if (sentAtMs === 0) {
          sentAtMs = Date.now();
          void send(storeId, "live", 9, { n: "x" });
        }
        return versions.includes("x/2");
      },
      storeId,
    );
    assert.ok(seen.versions.length === 2 && Date.now() - sentAtMs < 2_000, `${Date.now() - sentAtMs} ms`);
  });
});

describe("two servers", () => {
  test("evaluate a tenant in one at a time, and one takes over from the other", async () => {
    const storeId = await createStore("Twice");
    const ruleId = await createRule({ name: "twice", metricName: "t", storeId, condition: above(5) });
    {
      await using other = await serve(server.database);
      assert.ok(other.url);
      for (let round = 0; round < 5; round++) {
        await send(storeId, "t", 9);
        await untilState(ruleId, AlertState.FIRING);
        await send(storeId, "t", 0);
        await untilState(ruleId, AlertState.RESOLVED);
      }
    }
    const { alerts } = await metrics.listAlerts({ ruleId, states: everyState });
    assert.equal(alerts.length, 5);
    for (const { id } of alerts) assert.equal((await historyOf(id)).length, 4);
  });
});
