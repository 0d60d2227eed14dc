/** Alert rules: making and changing them, and the back-test. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { AlertState } from "../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { above, everyState, type RuleSpec, startAlertServer } from "./helpers/alerts.ts";
import { assertFails } from "./helpers/errors.ts";

const setting = await startAlertServer();
after(() => setting[Symbol.asyncDispose]());
const { metrics, untilState, createStore, createRule, send } = setting;

describe("rules", () => {
  test("are made, found, changed with an etag, and refused with the field that is wrong", async () => {
    const storeId = await createStore("Ruled");
    const spec: RuleSpec = { name: "r-1", metricName: "r", condition: above(5, 4), labels: { a: "b" } };
    const { rule } = await metrics.createAlertRule({ spec });
    await metrics.createAlertRule({ spec: { ...spec, name: "r-2", storeId } });
    const taken = await assertFails(metrics.createAlertRule({ spec }), Code.AlreadyExists, "ALREADY_EXISTS");
    assert.equal(taken.metadata.field, "name");
    const wrong = metrics.createAlertRule({ spec: { ...spec, name: "r-3", condition: above(5, 6) } });
    assert.deepEqual((await assertFails(wrong, Code.InvalidArgument, "INVALID_FIELD")).fields, [
      "spec.threshold.recovery_value",
    ]);
    const nobody = "00000000-0000-4000-8000-000000000000";
    for (const other of [
      { storeId: nobody },
      { targets: [{ target: { case: "webhookId" as const, value: nobody } }] },
    ])
      await assertFails(
        metrics.createAlertRule({ spec: { ...spec, name: "r-4", ...other } }),
        Code.NotFound,
        "NOT_FOUND",
      );
    const { rules } = await metrics.listAlertRules({ storeId, pageSize: 1_000 });
    assert.deepEqual(
      rules.map((one) => one.spec?.name).filter((name) => name?.startsWith("r-")),
      ["r-1", "r-2"],
    );
    const ruleId = rule?.id ?? "";
    const changed = await metrics.updateAlertRule({
      ruleId,
      etag: rule?.etag ?? "",
      spec: { ...spec, message: "new", name: "other" },
      updateMask: { paths: ["message"] },
    });
    assert.deepEqual([changed.rule?.spec?.message, changed.rule?.spec?.name], ["new", "r-1"]);
    await assertFails(
      metrics.updateAlertRule({ ruleId, etag: rule?.etag ?? "", spec }),
      Code.Aborted,
      "ETAG_MISMATCH",
    );
    await metrics.deleteAlertRule({ ruleId });
    await assertFails(metrics.getAlertRule({ ruleId }), Code.NotFound, "NOT_FOUND");
  });

  test("that change go on with their alerts; disabled ones resolve them", async () => {
    const storeId = await createStore("Changing");
    const spec: RuleSpec = { name: "changing", metricName: "c", storeId, condition: above(5) };
    const ruleId = await createRule(spec);
    await send(storeId, "c", 7);
    const { id } = await untilState(ruleId, AlertState.FIRING);
    // Looked at once more with the new threshold.
    await metrics.updateAlertRule({ ruleId, spec: { ...spec, condition: above(10) } });
    const resolved = await untilState(ruleId, AlertState.RESOLVED);
    assert.equal(resolved.id, id);
    await metrics.updateAlertRule({ ruleId, spec: { ...spec, condition: above(6) } });
    await untilState(ruleId, AlertState.FIRING);
    await metrics.updateAlertRule({ ruleId, spec: { ...spec, condition: above(6), disabled: true } });
    assert.deepEqual((await metrics.listAlerts({ ruleId })).alerts, []);
    await send(storeId, "c", 99);
    await sleep(700);
    assert.deepEqual((await metrics.listAlerts({ ruleId })).alerts, []);
  });

  test("look at the values of the last minutes when they are made", async () => {
    const storeId = await createStore("Before");
    await send(storeId, "before", 9);
    await sleep(500);
    const ruleId = await createRule({
      name: "made later",
      metricName: "before",
      storeId,
      condition: above(5),
    });
    await untilState(ruleId, AlertState.FIRING);
  });
});

describe("the back-test", () => {
  test("tells what a rule would have done, as it did live", async () => {
    const storeId = await createStore("Past");
    const startMs = Date.now() - 3_600_000;
    const values = Array.from({ length: 600 }, (_, index) => (index % 60 < 20 ? 10 : 1));
    await metrics.writeSamples({
      storeId,
      series: [
        {
          name: "past",
          baseTime: timestampFromMs(startMs),
          offsetsMs: values.map((_, index) => index * 1_000),
          values,
        },
      ],
    });
    const spec: RuleSpec = {
      name: "past",
      metricName: "past",
      storeId,
      condition: above(5),
      for: durationFromMs(10_000),
      recoveryFor: durationFromMs(5_000),
    };
    const range = { start: timestampFromMs(startMs), end: timestampFromMs(startMs + 600_000) };
    const { fired, transitions, truncated } = await metrics.backtestAlertRule({ spec, ...range });
    assert.deepEqual([fired, transitions.length, truncated], [10, 40, false]);
    assert.deepEqual(
      transitions.slice(0, 4).map(({ at, to }) => [at && timestampMs(at) - startMs, AlertState[to]]),
      [
        [0, "PENDING"],
        [10_000, "FIRING"],
        [20_000, "RECOVERING"],
        [25_000, "RESOLVED"],
      ],
    );
    const { alerts } = await metrics.listAlerts({ storeId, states: everyState });
    assert.deepEqual(alerts, []);
    const absence = await metrics.backtestAlertRule({
      spec: {
        ...spec,
        condition: { case: "absence", value: { duration: durationFromMs(60_000) } },
        for: durationFromMs(0),
      },
      start: range.start,
      end: timestampFromMs(startMs + 1_200_000),
    });
    assert.deepEqual(
      absence.transitions.map(({ at, to }) => [at && timestampMs(at) - startMs, AlertState[to]]),
      [
        [659_000, "PENDING"],
        [659_000, "FIRING"],
      ],
    );
    const backwards = metrics.backtestAlertRule({ spec, start: range.end, end: range.start });
    await assertFails(backwards, Code.InvalidArgument, "INVALID_FIELD");
  });
});
