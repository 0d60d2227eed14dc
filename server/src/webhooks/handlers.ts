import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { newResourceId } from "../auth/ids.ts";
import { getTenant, lockTenant, type TenantRow } from "../auth/tenants/store.ts";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { type TenantTransaction, withTenant } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { WebhooksService } from "../gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { enterAudit } from "../rpc/audit.ts";
import { failure, notFound } from "../rpc/errors.ts";
import { webhookCaller } from "./caller.ts";
import { requireSame, requireUrl, webhookChanges } from "./changes.ts";
import { deliveryHandlers } from "./delivery-handlers.ts";
import { discardWaiting, redirectWaiting } from "./delivery-store.ts";
import { requireOwn, storedFilter } from "./filter.ts";
import { webhookMessage } from "./messages.ts";
import { secretOr, secretPurpose } from "./secret.ts";
import * as store from "./store.ts";

const defaultPageSize = 100;
/** How long a secret that was replaced still signs, unless the caller says otherwise. */
const defaultOverlapMs = 86_400_000;

/** WebhooksService. */
export function webhooksHandlers(context: Context): Partial<ServiceImpl<typeof WebhooksService>> {
  const { config, db, keyring } = context;
  const { allowPrivate, maxPerTenant } = config.webhooks;

  return {
    ...deliveryHandlers(context),

    async createWebhook(request, call) {
      const caller = webhookCaller(call);
      const { tenantId } = caller;
      const url = requireUrl(request.url, allowPrivate);
      const id = newResourceId();
      const secret = secretOr(request.secret);
      const sealed = await keyring.seal(secret, secretPurpose(id));
      const now = new Date();
      const row = await withTenant(db, tenantId, async (trx) => {
        const tenant = await requireRoom(trx, tenantId, maxPerTenant);
        await requireOwn(trx, tenant, request.filter);
        const made = await store.insertWebhook(trx, {
          tenant_id: tenantId,
          id,
          url,
          description: request.description,
          event_types: request.eventTypes,
          filter: storedFilter(request.filter),
          group_wait_ms: request.groupWait ? durationMs(request.groupWait) : 0,
          enabled: !request.disabled,
          ...(request.disabled && { disabled_reason: "BY_CALLER", disabled_at: now }),
          secret: sealed,
          created_by: caller.userId ?? caller.apiKeyId ?? null,
          created_at: now,
          updated_at: now,
        });
        await enterAudit(trx, tenantId, call, { resourceId: id });
        return made;
      });
      return { webhook: webhookMessage(row, now), secret };
    },

    async getWebhook({ webhookId }, call) {
      const { tenantId } = webhookCaller(call);
      const row = await withTenant(db, tenantId, (trx) => requireWebhook(trx, tenantId, webhookId));
      return { webhook: webhookMessage(row, new Date()) };
    },

    async listWebhooks({ eventType, enabled, pageSize, pageToken }, call) {
      const { tenantId } = webhookCaller(call);
      const query = { eventType, enabled };
      const identity = `webhooks ${tenantId} ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        store.listWebhooks(trx, tenantId, query, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.id]);
      const now = new Date();
      return { webhooks: page.map((row) => webhookMessage(row, now)), nextPageToken };
    },

    async updateWebhook(request, call) {
      const { tenantId } = webhookCaller(call);
      const now = new Date();
      const changes = webhookChanges(request, allowPrivate, now);
      const row = await withTenant(db, tenantId, async (trx) => {
        const { id } = await takeWebhook(trx, tenantId, request.webhookId, request.etag);
        const tenant = await getTenant(trx, tenantId);
        if (!tenant) throw notFound("tenant", tenantId);
        await requireOwn(trx, tenant, request.filter);
        await store.updateWebhook(trx, tenantId, id, changes);
        if (typeof changes.url === "string") await redirectWaiting(trx, tenantId, id, changes.url);
        if (changes.enabled === false) await discardWaiting(trx, tenantId, id, now);
        await enterAudit(trx, tenantId, call, { resourceId: id });
        return await requireWebhook(trx, tenantId, id);
      });
      return { webhook: webhookMessage(row, now) };
    },

    async deleteWebhook({ webhookId, etag }, call) {
      const { tenantId } = webhookCaller(call);
      const discardedDeliveries = await withTenant(db, tenantId, async (trx) => {
        const { id, url } = await takeWebhook(trx, tenantId, webhookId, etag);
        await store.deleteWebhook(trx, tenantId, id);
        const discarded = await discardWaiting(trx, tenantId, id, new Date());
        const { origin, pathname } = new URL(url);
        await enterAudit(trx, tenantId, call, {
          resourceId: id,
          details: { url: { old: origin + pathname } },
        });
        return discarded;
      });
      return { discardedDeliveries };
    },

    async rotateWebhookSecret({ webhookId, overlap, secret: given }, call) {
      const { tenantId } = webhookCaller(call);
      const secret = secretOr(given);
      const now = new Date();
      const overlapMs = overlap ? durationMs(overlap) : defaultOverlapMs;
      const row = await withTenant(db, tenantId, async (trx) => {
        const webhook = await takeWebhook(trx, tenantId, webhookId, "");
        const { id } = webhook;
        await store.updateWebhook(trx, tenantId, id, {
          secret: await keyring.seal(secret, secretPurpose(id)),
          previous_secret: overlapMs > 0 ? webhook.secret : null,
          previous_secret_expires_at: overlapMs > 0 ? new Date(now.getTime() + overlapMs) : null,
          updated_at: now,
        });
        await enterAudit(trx, tenantId, call, { resourceId: id });
        return await requireWebhook(trx, tenantId, id);
      });
      return { webhook: webhookMessage(row, now), secret };
    },
  };
}

async function requireWebhook(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<store.WebhookRow> {
  const row = await store.getWebhook(trx, tenantId, id.toLowerCase());
  if (!row) throw notFound("webhook", id);
  return row;
}

/** The webhook, locked. */
async function takeWebhook(trx: TenantTransaction, tenantId: string, id: string, etag: string) {
  const webhook = await store.lockWebhook(trx, tenantId, id.toLowerCase());
  if (!webhook) throw notFound("webhook", id);
  requireSame(webhook, etag);
  return webhook;
}

/** The tenant is locked, so that two calls do not both find room. */
async function requireRoom(trx: TenantTransaction, tenantId: string, limit: number): Promise<TenantRow> {
  const tenant = await lockTenant(trx, tenantId);
  if (!tenant) throw notFound("tenant", tenantId);
  if ((await store.countWebhooks(trx, tenantId)) < limit) return tenant;
  throw failure(ErrorReason.TENANT_LIMIT, `a tenant may have ${limit} webhooks; delete one first`, {
    metadata: { limit: "webhooks" },
  });
}
