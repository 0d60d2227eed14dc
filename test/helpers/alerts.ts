/** A server with what tests of alert rules do with it. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import {
  type Alert,
  type AlertRuleSpecSchema,
  AlertState,
  Comparison,
} from "../../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { MetricsService } from "../../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { grpcSession, startTestServer } from "./server.ts";

/** The words of a rule. */
export type RuleSpec = Extract<MessageInitShape<typeof AlertRuleSpecSchema>, { $typeName?: never }>;

/** Holds while the value is greater. */
export const above = (value: number, recoveryValue?: number): NonNullable<RuleSpec["condition"]> => ({
  case: "threshold",
  value: {
    comparison: Comparison.GREATER,
    value,
    ...(recoveryValue !== undefined && { recoveryValue }),
  },
});

export const everyState = [
  AlertState.PENDING,
  AlertState.FIRING,
  AlertState.ACKNOWLEDGED,
  AlertState.RECOVERING,
  AlertState.RESOLVED,
];

/** Starts a server that evaluates the rules of a tenant. */
export async function startAlertServer() {
  const server = await startTestServer();
  const session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const metrics = createClient(MetricsService, session.transport);
  /** Waits until the rule's alerts, newest first, are as wanted. */
  async function alertsUntil(ruleId: string, done: (alerts: Alert[]) => boolean, timeoutMs = 10_000) {
    for (const end = Date.now() + timeoutMs; ; await sleep(20)) {
      const { alerts } = await metrics.listAlerts({ ruleId, states: everyState });
      if (done(alerts)) return alerts;
      const states = alerts.map(({ state }) => AlertState[state]).join();
      assert.ok(Date.now() < end, `the alerts are ${states || "none"}`);
    }
  }
  return {
    server,
    session,
    metrics,
    alertsUntil,
    async untilState(ruleId: string, state: AlertState, timeoutMs?: number): Promise<Alert> {
      const [alert] = await alertsUntil(ruleId, ([newest]) => newest?.state === state, timeoutMs);
      assert.ok(alert);
      return alert;
    },
    createStore: async (name: string) => (await metrics.createStore({ name })).store?.id ?? "",
    async createRule(spec: RuleSpec): Promise<string> {
      const { rule } = await metrics.createAlertRule({ spec });
      return rule?.id ?? "";
    },
    async send(storeId: string, name: string, value: number, labels = {}, atMs = Date.now()) {
      await metrics.writeSamples({
        storeId,
        samples: [{ name, value, labels, timestamp: timestampFromMs(atMs) }],
      });
    },
    async historyOf(alertId: string): Promise<string[]> {
      const { transitions } = await metrics.getAlert({ alertId });
      return transitions.map(({ from, to }) => `${AlertState[from]} → ${AlertState[to]}`);
    },
    async [Symbol.asyncDispose]() {
      session[Symbol.dispose]();
      await server.stop();
    },
  };
}
