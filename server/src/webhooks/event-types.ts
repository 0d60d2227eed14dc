/**
 * What webhooks can be told of, and what the body of each type must hold: filters (`WebhookFilter`) and the delivery log
 * (`Delivery.subject_ids`, `alert_rule_id`) read these fields, and messages for people are made of them. Names are those of
 * the proto fields; a body may hold more.
 */
import type { JsonObject } from "@bufbuild/protobuf";

/** `function.created`, `.updated`, `.deleted`. */
export type FunctionEventData = JsonObject & {
  /** The subject. */
  function_id: string;
  /** Its name, for the filter `function_names`. */
  name: string;
};

/** `function.invoked`: a call. */
export type InvocationEventData = FunctionEventData & {
  /** A further subject. */
  invocation_id: string;
};

/** `function.failed`: a function that became FAILED, or an invocation that ended FAILED or TIMED_OUT. */
export type FunctionFailedData = FunctionEventData & {
  /** Why, for a person. */
  reason: string;
  /** Only of an invocation: a further subject. */
  invocation_id?: string;
};

/** `alert.*`. */
export type AlertEventData = JsonObject & {
  /** The subject. */
  alert_id: string;
  /** For the filter `alert_rule_ids` and the delivery log. */
  alert_rule_id: string;
  rule_name: string;
  /** For the filter `store_ids`. */
  store_id: string;
  /** For a person. */
  store_name: string;
  metric_name: string;
  /** For the filter `severities`. */
  severity: "info" | "warning" | "critical";
  /** The rule's text, filled in. */
  message: string;
};

/** `progress.completed`. */
export type ProgressEventData = JsonObject & {
  /** Id of the progress: the subject. */
  progress_id: string;
  /** For the filter `client_krns`. */
  client_krn: string;
  filename: string;
};

/** `event.processed`. */
export type ProcessedEventData = JsonObject & {
  /** The sender's id: the subject. */
  event_id: string;
  /** For the filter `source_event_types`. */
  event_type: string;
  /** For the filter `severities`. */
  severity: "debug" | "info" | "warning" | "error" | "critical";
};

/** The body of each type. */
export interface WebhookEventData {
  "function.created": FunctionEventData;
  "function.updated": FunctionEventData;
  "function.deleted": FunctionEventData;
  "function.invoked": InvocationEventData;
  "function.failed": FunctionFailedData;
  "alert.pending": AlertEventData;
  "alert.firing": AlertEventData;
  "alert.acknowledged": AlertEventData;
  "alert.recovering": AlertEventData;
  "alert.resolved": AlertEventData;
  "progress.completed": ProgressEventData;
  "event.processed": ProcessedEventData;
}

export type WebhookEventType = keyof WebhookEventData;
