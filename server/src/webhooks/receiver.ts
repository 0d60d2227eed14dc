import { hash } from "node:crypto";
import type { DeliveryChannel, DeliveryTarget } from "../db/schema/webhooks.ts";
import type { NotificationTarget } from "../gen/pulsewire/metrics/v1/alert_pb.js";

/** Targets of an alert rule, as far as they are needed. */
export type Targets = readonly Pick<NotificationTarget, "target">[];

/** Targets of an alert rule as they are stored. */
export function deliveryTargets(targets: Targets): DeliveryTarget[] {
  return targets.flatMap(({ target }) => deliveryTarget(target));
}

/** What stands for a receiver: the webhook's id, or a UUID (version 8) made of channel and address. */
export function receiverOf({ channel, to }: DeliveryTarget): string {
  if (channel === "HTTP") return to;
  const hex = hash("sha256", `${channel} ${addressOf(channel, to)}`);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** One form of an address. */
export function addressOf(channel: DeliveryChannel, to: string): string {
  return channel === "EMAIL" ? to.toLowerCase() : to;
}

function deliveryTarget(target: NotificationTarget["target"]): DeliveryTarget[] {
  switch (target.case) {
    case "webhookId":
      return [{ channel: "HTTP", to: target.value.toLowerCase() }];
    case "email":
      return [{ channel: "EMAIL", to: target.value }];
    case "whatsapp":
      return [{ channel: "WHATSAPP", to: target.value }];
    default:
      return [];
  }
}
