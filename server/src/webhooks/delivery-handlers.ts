import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { newResourceId } from "../auth/ids.ts";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import type { DeliveryChannel, StoredDeliveryStatus } from "../db/schema/webhooks.ts";
import { withTenant } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { Channel, DeliveryStatus } from "../gen/pulsewire/webhooks/v1/delivery_pb.js";
import type { WebhooksService } from "../gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { enterAudit } from "../rpc/audit.ts";
import { failure, notFound } from "../rpc/errors.ts";
import type { RateWindows } from "../rpc/rate-windows.ts";
import { attempt } from "./attempt.ts";
import { webhookCaller } from "./caller.ts";
import * as deliveries from "./delivery-store.ts";
import { testMessage } from "./examples.ts";
import { deliveryMessage, listedDelivery } from "./messages.ts";
import { replayOf } from "./replay.ts";
import * as store from "./store.ts";

const defaultPageSize = 100;

/** The part of WebhooksService that is about deliveries. */
export function deliveryHandlers(context: Context): Partial<ServiceImpl<typeof WebhooksService>> {
  const { channels, config, db, logger, rateWindows } = context;

  return {
    async testWebhook({ webhookId, eventType }, call) {
      const { tenantId } = webhookCaller(call);
      const webhook = await withTenant(db, tenantId, (trx) =>
        store.getWebhook(trx, tenantId, webhookId.toLowerCase()),
      );
      if (!webhook) throw notFound("webhook", webhookId);
      await requireTestAllowed(rateWindows, config.webhooks.testsPerMinute, webhook.id);
      const { row, claimed } = testDelivery(webhook, eventType);
      const { outcome, made } = await attempt(channels.deliver.HTTP, claimed, {
        now: Date.now,
        signal: context.shutdown.signal,
        logger,
      });
      const delivery = await withTenant(db, tenantId, async (trx) => {
        const inserted = await deliveries.insertDelivery(trx, {
          ...row,
          status: outcome.accepted ? "DELIVERED" : "FAILED",
          attempts: JSON.stringify([made]),
          attempt_count: 1,
          finished_at: new Date(),
        });
        await enterAudit(trx, tenantId, call, { resourceId: webhook.id });
        return inserted;
      });
      return { delivery: deliveryMessage(delivery) };
    },

    async getDelivery({ deliveryId }, call) {
      const { tenantId } = webhookCaller(call);
      const row = await withTenant(db, tenantId, (trx) =>
        deliveries.getDelivery(trx, tenantId, deliveryId.toLowerCase()),
      );
      if (!row) throw notFound("delivery", deliveryId);
      return { delivery: deliveryMessage(row) };
    },

    async listDeliveries({ pageSize, pageToken, ...request }, call) {
      const { tenantId } = webhookCaller(call);
      const query: deliveries.DeliveryQuery = {
        receiver: request.webhookId.toLowerCase(),
        statuses: request.statuses.map((status) => DeliveryStatus[status] as StoredDeliveryStatus),
        eventType: request.eventType,
        channel: request.channel ? (Channel[request.channel] as DeliveryChannel) : undefined,
        subjectId: request.subjectId,
        alertRuleId: request.alertRuleId.toLowerCase(),
        createdFrom: request.createdFrom && timestampDate(request.createdFrom),
        createdUntil: request.createdUntil && timestampDate(request.createdUntil),
      };
      const identity = `deliveries ${tenantId} ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        deliveries.listDeliveries(trx, tenantId, query, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.id]);
      return { deliveries: page.map(listedDelivery), nextPageToken };
    },

    async replayDelivery({ deliveryId }, call) {
      const { tenantId } = webhookCaller(call);
      const delivery = await withTenant(db, tenantId, async (trx) => {
        const original = await deliveries.getDelivery(trx, tenantId, deliveryId.toLowerCase());
        if (!original) throw notFound("delivery", deliveryId);
        const made = await deliveries.insertDelivery(trx, await replayOf(trx, original, config));
        await enterAudit(trx, tenantId, call, {
          resourceId: original.id,
          details: { replay: { new: made.id } },
        });
        return made;
      });
      return { delivery: deliveryMessage(delivery) };
    },
  };
}

async function requireTestAllowed(windows: RateWindows, limit: number, webhookId: string): Promise<void> {
  const { calls, resetMs } = await windows.count(`webhook-test ${webhookId}`);
  if (calls <= limit) return;
  throw failure(ErrorReason.RATE_LIMITED, `more than ${limit} tests of this webhook in a minute`, {
    metadata: { limit: "webhook-test" },
    retryAfterMs: resetMs,
  });
}

/** A test message, as it is stored and as it is sent. */
function testDelivery(webhook: store.WebhookRow, eventType: string) {
  const now = new Date();
  const payload = testMessage(eventType, webhook.id, now);
  const messageId = newResourceId();
  const id = newResourceId();
  const { tenant_id: tenantId, url } = webhook;
  return {
    row: {
      tenant_id: tenantId,
      id,
      receiver: webhook.id,
      channel: "HTTP" as const,
      webhook_id: webhook.id,
      destination: url,
      message_id: messageId,
      event_type: payload.type,
      payload: JSON.stringify(payload),
      subject_ids: [],
      alert_rule_ids: [],
      happenings: 1,
      created_at: now,
      test: true,
    },
    claimed: {
      tenantId,
      id,
      receiver: webhook.id,
      channel: "HTTP" as const,
      destination: url,
      messageId,
      payload,
      attempts: 0,
      createdMs: now.getTime(),
      claim: "",
      webhook: {
        id: webhook.id,
        secret: webhook.secret,
        previousSecret: webhook.previous_secret,
        previousSecretExpiresAt: webhook.previous_secret_expires_at,
      },
    },
  };
}
