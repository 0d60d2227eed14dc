/** Which webhooks are told of an event. */
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import type { Selectable } from "kysely";
import type { WebhookEventsTable, WebhooksTable } from "../db/schema/webhooks.ts";
import { type WebhookFilter, WebhookFilterSchema } from "../gen/pulsewire/webhooks/v1/webhook_pb.js";
import { askingFor } from "./emit.ts";

export type OutboxEvent = Selectable<WebhookEventsTable>;

/** Whether a webhook has asked for this event. */
export type Asks = (event: Pick<OutboxEvent, "type" | "data">) => boolean;

export function asksOf({
  event_types,
  filter,
}: Pick<Selectable<WebhooksTable>, "event_types" | "filter">): Asks {
  const types = new Set(event_types);
  const narrowed = filterOf(filter);
  return ({ type, data }) =>
    askingFor(type).some((asked) => types.has(asked)) && passes(narrowed, type, data);
}

/** The filter as it is stored, in ProtoJSON. */
export function filterOf(stored: JsonObject): WebhookFilter {
  return fromJson(WebhookFilterSchema, stored, { ignoreUnknownFields: true });
}

/** Each list narrows only what it can be said of. */
function passes(filter: WebhookFilter, type: string, data: JsonObject): boolean {
  const isIn = (list: readonly string[], value: JsonValue | undefined) =>
    list.length === 0 || list.includes(String(value));
  switch (type.split(".")[0]) {
    case "alert":
      return (
        isIn(filter.storeIds, data.store_id) &&
        isIn(filter.alertRuleIds, data.alert_rule_id) &&
        isIn(filter.severities, data.severity)
      );
    case "event":
      return isIn(filter.severities, data.severity) && isIn(filter.sourceEventTypes, data.event_type);
    case "function":
      return isIn(filter.functionNames, data.name);
    case "progress":
      return isIn(filter.clientKrns, data.client_krn);
    default:
      return true;
  }
}

/** Ids of what an event tells about. */
export function subjectsOf({ type, data }: Pick<OutboxEvent, "type" | "data">): string[] {
  const named = subjects[type.split(".")[0] ?? ""] ?? [];
  return named.flatMap((name) => (typeof data[name] === "string" ? [data[name]] : []));
}

const subjects: Readonly<Record<string, readonly string[]>> = {
  alert: ["alert_id"],
  event: ["event_id"],
  function: ["function_id", "invocation_id"],
  progress: ["progress_id"],
};
