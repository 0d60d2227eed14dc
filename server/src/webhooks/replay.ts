import { newResourceId } from "../auth/ids.ts";
import type { Config } from "../config/config.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { getRule, specOf } from "../metrics/alerts/rule-store.ts";
import { failure } from "../rpc/errors.ts";
import type { DeliveryRow, NewDelivery } from "./delivery-store.ts";
import { deliveryTargets, receiverOf } from "./receiver.ts";
import { getWebhook } from "./store.ts";

/** A new delivery of the same message. Throws FAILED_PRECONDITION and NOT_CONFIGURED. */
export async function replayOf(
  trx: TenantTransaction,
  original: DeliveryRow,
  config: Pick<Config, "mail" | "webhooks">,
): Promise<NewDelivery> {
  const now = new Date();
  const destination = await destinationOf(trx, original, config);
  await requireTarget(trx, original);
  return {
    tenant_id: original.tenant_id,
    id: newResourceId(),
    receiver: original.receiver,
    channel: original.channel,
    webhook_id: original.webhook_id,
    destination,
    message_id: original.message_id,
    event_type: original.event_type,
    payload: JSON.stringify(original.payload),
    subject_ids: original.subject_ids,
    alert_rule_ids: original.alert_rule_ids,
    happenings: original.happenings,
    status: "PENDING",
    due_at: now,
    created_at: now,
    replay_of: original.id,
    test: original.test,
  };
}

/** What went to the target of an alert rule goes to it as long as the rule has it. */
async function requireTarget(
  trx: TenantTransaction,
  { tenant_id, alert_rule_ids, receiver }: DeliveryRow,
): Promise<void> {
  if (alert_rule_ids.length === 0) return;
  for (const ruleId of alert_rule_ids) {
    const rule = await getRule(trx, tenant_id, ruleId);
    if (rule && deliveryTargets(specOf(rule).targets).some((target) => receiverOf(target) === receiver))
      return;
  }
  throw failure(ErrorReason.FAILED_PRECONDITION, "the alert rule is deleted or has this target no more", {
    metadata: { resource: "alert rule" },
  });
}

async function destinationOf(
  trx: TenantTransaction,
  { tenant_id, channel, webhook_id, destination }: DeliveryRow,
  { mail, webhooks }: Pick<Config, "mail" | "webhooks">,
): Promise<string> {
  switch (channel) {
    case "HTTP": {
      const webhook = webhook_id === null ? undefined : await getWebhook(trx, tenant_id, webhook_id);
      if (webhook?.enabled) return webhook.url;
      throw failure(
        ErrorReason.FAILED_PRECONDITION,
        webhook ? "the webhook is disabled; enable it first" : "the webhook was deleted",
        { metadata: { resource: "webhook" } },
      );
    }
    case "EMAIL":
      if (mail) return destination;
      throw notConfigured("PULSEWIRE_SMTP_URL");
    case "WHATSAPP":
      if (webhooks.whatsapp) return destination;
      throw notConfigured("WHATSAPP_API_TOKEN");
  }
}

function notConfigured(setting: string) {
  return failure(ErrorReason.NOT_CONFIGURED, `the operator of this server has not set ${setting}`, {
    metadata: { setting },
  });
}
