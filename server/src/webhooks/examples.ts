/** What test messages tell: the type's fields with made-up values. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { WebhookEventData, WebhookEventType } from "./event-types.ts";
import type { Happening } from "./payload.ts";

const id = "01890a5d-ac96-774b-bcce-b302099a8057";

const functionData = { function_id: id, name: "web-server", image: "nginx:alpine", replicas: 2 };
const alertData = {
  alert_id: id,
  alert_rule_id: id,
  rule_name: "Freezer too warm",
  store_id: id,
  store_name: "Store 12",
  metric_name: "freezer_temperature",
  severity: "critical" as const,
  message: "The freezer is at -4 °C",
  value: -4,
};

const examples: { readonly [Type in WebhookEventType]: WebhookEventData[Type] } = {
  "function.created": functionData,
  "function.updated": functionData,
  "function.deleted": functionData,
  "function.invoked": { ...functionData, invocation_id: id },
  "function.failed": { ...functionData, reason: "the image could not be pulled" },
  "alert.pending": alertData,
  "alert.firing": alertData,
  "alert.acknowledged": alertData,
  "alert.recovering": alertData,
  "alert.resolved": alertData,
  "progress.completed": {
    progress_id: id,
    client_krn: "krn:acme:client:importer",
    filename: "products.csv",
    total: 1_000,
  },
  "event.processed": { event_id: "order-4711", event_type: "order.placed", severity: "info" },
};

/** A test message of a type; of none, `webhook.test`. */
export function testMessage(eventType: string, webhookId: string, now: Date): Happening {
  const example: JsonObject | undefined = examples[eventType as WebhookEventType];
  return {
    type: example ? eventType : "webhook.test",
    timestamp: now.toISOString(),
    data: example ?? { webhook_id: webhookId },
  };
}
