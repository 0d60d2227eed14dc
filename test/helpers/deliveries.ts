import { createClient } from "@connectrpc/connect";
import { withTenant } from "../../server/src/db/tenant.ts";
import { WebhooksService } from "../../server/src/gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { type EmitOptions, emitWebhookEvent } from "../../server/src/webhooks/emit.ts";
import type { WebhookEventData, WebhookEventType } from "../../server/src/webhooks/event-types.ts";
import { type DeliveryOverrides, startDeliveries } from "../../server/src/webhooks/worker.ts";
import { grpcSession, startTestServer } from "./server.ts";

/** A server that only answers calls, whose deliveries the test starts and stops, on a clock of the test. */
export async function startPost(settings: Parameters<typeof startTestServer>[0] = {}) {
  const server = await startTestServer({
    PULSEWIRE_ROLE: "api",
    PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "on",
    ...settings,
  });
  const { context, tenant } = server;
  const session = grpcSession(server.url, { "x-api-key": tenant.apiKey });
  const webhooks = createClient(WebhooksService, session.transport);
  let skippedMs = 0;
  let wake = () => {};
  const now = () => Date.now() + skippedMs;
  return {
    server,
    webhooks,
    now,
    /** Moves the clock on. */
    skip(ms: number) {
      skippedMs += ms;
    },
    /** Starts the background work; disposing it lets attempts under way end. */
    start(overrides: DeliveryOverrides = {}) {
      const worker = startDeliveries(context, { now, ...overrides });
      wake = worker.wake;
      return { ...worker, [Symbol.asyncDispose]: () => worker.close() };
    },
    emit<Type extends WebhookEventType>(type: Type, data: WebhookEventData[Type], options?: EmitOptions) {
      return withTenant(context.db, tenant.tenantId, (trx) =>
        emitWebhookEvent(trx, tenant.tenantId, type, data, options),
      );
    },
    /**
     * Waits until all that was emitted has ended, or the condition holds. While nothing is due the clock jumps on to the
     * next attempt, by `jumpMs` at most.
     */
    async settled({
      jumpMs = 0,
      until = async () => false,
    }: {
      jumpMs?: number;
      until?: () => Promise<boolean>;
    } = {}) {
      for (;;) {
        const { rows } = await server.database.superuser.query(
          `select (select count(*) from pulsewire.webhook_events)::int as emitted, count(*)::int as waiting,
            count(claim)::int as tried, extract(epoch from min(due_at)) * 1000 as due
          from pulsewire.deliveries where due_at is not null`,
        );
        const { emitted, waiting, tried, due } = rows[0];
        if (emitted + waiting === 0 || (await until())) return;
        const ahead = Number(due) - now();
        if (emitted + tried === 0 && ahead > 0 && jumpMs > 0) {
          skippedMs += Math.min(ahead + 10_000, jumpMs);
          wake();
        }
        await new Promise((next) => setTimeout(next, 20));
      }
    },
    async [Symbol.asyncDispose]() {
      session[Symbol.dispose]();
      await server.stop();
    },
  };
}

export const functionEvent = (name = "web") => ({ function_id: crypto.randomUUID(), name });

export const alertEvent = (ruleId: string, message = "too warm") => ({
  alert_id: crypto.randomUUID(),
  alert_rule_id: ruleId,
  rule_name: "Freezer",
  store_id: crypto.randomUUID(),
  store_name: "Store 12",
  metric_name: "temperature",
  severity: "critical" as const,
  message,
});
