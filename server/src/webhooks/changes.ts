import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Updateable } from "kysely";
import type { WebhooksTable } from "../db/schema/webhooks.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { UpdateWebhookRequest } from "../gen/pulsewire/webhooks/v1/webhook_pb.js";
import { allowedUrl, OutboundForbidden } from "../net/allowed.ts";
import { failure, invalidField } from "../rpc/errors.ts";
import { storedFilter } from "./filter.ts";
import { webhookEtag } from "./messages.ts";
import type { WebhookRow } from "./store.ts";

/** What an update changes: the fields that its mask names, or those that are not empty. Throws INVALID_FIELD. */
export function webhookChanges(
  request: UpdateWebhookRequest,
  allowPrivate: boolean,
  now: Date,
): Updateable<WebhooksTable> {
  const { updateMask, url, eventTypes, filter, description, groupWait, enabled } = request;
  const named = (path: string, isGiven: boolean) =>
    updateMask && updateMask.paths.length > 0 ? updateMask.paths.includes(path) : isGiven;
  const changes: Updateable<WebhooksTable> = { updated_at: now };
  if (named("url", url !== "")) changes.url = requireUrl(url, allowPrivate);
  if (named("event_types", eventTypes.length > 0)) changes.event_types = eventTypes;
  if (named("filter", filter !== undefined)) changes.filter = storedFilter(filter);
  if (named("description", description !== "")) changes.description = description;
  if (named("group_wait", groupWait !== undefined))
    changes.group_wait_ms = groupWait ? durationMs(groupWait) : 0;
  if (named("enabled", enabled !== undefined)) Object.assign(changes, standing(enabled !== false, now));
  return changes;
}

/** Enabled, with a clean slate, or disabled by a caller. */
function standing(enabled: boolean, now: Date): Updateable<WebhooksTable> {
  return enabled
    ? { enabled, disabled_reason: "", disabled_at: null, failing_since: null }
    : { enabled, disabled_reason: "BY_CALLER", disabled_at: now };
}

/** The address in one form, once it is allowed. Throws INVALID_FIELD. */
export function requireUrl(address: string, allowPrivate: boolean): string {
  try {
    return allowedUrl(address, allowPrivate).href;
  } catch (error) {
    if (!(error instanceof OutboundForbidden)) throw error;
    throw invalidField("url", `${error.message}; see the setting PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS`, "url");
  }
}

/** Throws ETAG_MISMATCH. */
export function requireSame(webhook: Pick<WebhookRow, "version">, etag: string): void {
  if (!etag || etag === webhookEtag(webhook)) return;
  throw failure(
    ErrorReason.ETAG_MISMATCH,
    "etag: the webhook has changed since; read it again and repeat the change",
    { metadata: { resource: "webhook" } },
  );
}
