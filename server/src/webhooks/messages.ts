import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { DeliveryChannel, StoredAttempt, StoredDeliveryStatus } from "../db/schema/webhooks.ts";
import {
  Channel,
  type Delivery,
  type DeliveryAttempt,
  DeliveryAttemptSchema,
  DeliverySchema,
  DeliveryStatus,
} from "../gen/pulsewire/webhooks/v1/delivery_pb.js";
import {
  type Webhook,
  WebhookDisabledReason,
  WebhookSchema,
} from "../gen/pulsewire/webhooks/v1/webhook_pb.js";
import type { DeliveryRow } from "./delivery-store.ts";
import { filterOf } from "./match.ts";
import type { WebhookRow } from "./store.ts";

export const channelOf: Record<DeliveryChannel, Channel> = {
  HTTP: Channel.HTTP,
  EMAIL: Channel.EMAIL,
  WHATSAPP: Channel.WHATSAPP,
};

export const statusOf: Record<StoredDeliveryStatus, DeliveryStatus> = {
  PENDING: DeliveryStatus.PENDING,
  RETRYING: DeliveryStatus.RETRYING,
  DELIVERED: DeliveryStatus.DELIVERED,
  FAILED: DeliveryStatus.FAILED,
  DISCARDED: DeliveryStatus.DISCARDED,
};

const reasonOf: Record<WebhookRow["disabled_reason"], WebhookDisabledReason> = {
  "": WebhookDisabledReason.UNSPECIFIED,
  BY_CALLER: WebhookDisabledReason.BY_CALLER,
  GONE: WebhookDisabledReason.GONE,
  FAILING: WebhookDisabledReason.FAILING,
};

/** The etag of a webhook: changes with every change by a caller. */
export function webhookEtag({ version }: Pick<WebhookRow, "version">): string {
  return version.toString(36);
}

export function webhookMessage(row: WebhookRow, now: Date): Webhook {
  const { previous_secret_expires_at: expires } = row;
  return create(WebhookSchema, {
    id: row.id,
    url: row.url,
    description: row.description,
    eventTypes: row.event_types,
    filter: filterOf(row.filter),
    groupWait: durationFromMs(row.group_wait_ms),
    enabled: row.enabled,
    disabledReason: reasonOf[row.disabled_reason],
    ...(row.disabled_at && { disabledAt: timestampFromDate(row.disabled_at) }),
    ...(row.last_success_at && { lastSuccessAt: timestampFromDate(row.last_success_at) }),
    ...(row.last_failure_at && { lastFailureAt: timestampFromDate(row.last_failure_at) }),
    pendingDeliveries: row.pending,
    ...(expires && expires > now && { previousSecretExpiresAt: timestampFromDate(expires) }),
    createdBy: row.created_by ?? "",
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: webhookEtag(row),
  });
}

/** A delivery with its payload and all attempts. */
export function deliveryMessage(row: DeliveryRow): Delivery {
  return create(DeliverySchema, {
    ...listed(row),
    payload: row.payload,
    attempts: row.attempts.map(attemptMessage),
  });
}

/** A delivery as lists have it, where the row holds the last attempt only. */
export function listedDelivery(row: DeliveryRow): Delivery {
  const attempts = row.attempts.map((attempt) => attemptMessage(attempt, row.attempt_count - 1));
  return create(DeliverySchema, { ...listed(row), attempts });
}

function listed(row: DeliveryRow) {
  return {
    id: row.id,
    webhookId: row.webhook_id ?? "",
    messageId: row.message_id,
    eventType: row.event_type,
    channel: channelOf[row.channel],
    destination: row.destination,
    status: statusOf[row.status],
    subjectIds: row.subject_ids,
    happenings: row.happenings,
    attemptCount: row.attempt_count,
    ...(row.due_at && { nextAttemptAt: timestampFromDate(row.due_at) }),
    createdAt: timestampFromDate(row.created_at),
    ...(row.finished_at && { finishedAt: timestampFromDate(row.finished_at) }),
    replayOf: row.replay_of ?? "",
    test: row.test,
    alertRuleId: row.alert_rule_ids[0] ?? "",
  };
}

function attemptMessage(attempt: StoredAttempt, index: number): DeliveryAttempt {
  return create(DeliveryAttemptSchema, {
    number: index + 1,
    startedAt: timestampFromDate(new Date(attempt.startedAt)),
    duration: durationFromMs(attempt.durationMs),
    responseStatus: attempt.status,
    responseBody: attempt.body,
    error: attempt.error,
  });
}
