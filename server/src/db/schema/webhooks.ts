/** Webhooks, what they are told of, and deliveries. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { ColumnType, Generated, JSONColumnType } from "kysely";
import type { CreatedAt, Fixed, NullableTimestamp, Timestamp } from "./columns.ts";

/** By name. */
export interface WebhookTables {
  webhook_events: WebhookEventsTable;
  webhooks: WebhooksTable;
  deliveries: DeliveriesTable;
}

/** What webhooks are to be told of. */
export interface WebhookEventsTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  type: Fixed<string>;
  data: JSONColumnType<JsonObject, string, never>;
  occurred_at: CreatedAt;
  /** Who is told whatever they subscribed to; null: nobody. */
  targets: ColumnType<DeliveryTarget[] | null, string | null | undefined, never>;
}

/** The channels of the contract. */
export type DeliveryChannel = "HTTP" | "EMAIL" | "WHATSAPP";

/** A webhook by its id, an e-mail address or a WhatsApp number. */
export interface DeliveryTarget {
  channel: DeliveryChannel;
  to: string;
}

export interface WebhooksTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  url: string;
  description: string;
  /** Single types, `alert.*` and its like, or `*`. */
  event_types: string[];
  /** WebhookFilter in ProtoJSON. */
  filter: ColumnType<JsonObject, string, string>;
  /** How long alerts are gathered; 0: not at all. */
  group_wait_ms: number;
  enabled: boolean;
  disabled_reason: Generated<"" | "BY_CALLER" | "GONE" | "FAILING">;
  disabled_at: NullableTimestamp;
  /** Sealed by the key ring, as is the one before. */
  secret: string;
  previous_secret: ColumnType<string | null, string | undefined, string | null>;
  previous_secret_expires_at: NullableTimestamp;
  last_success_at: NullableTimestamp;
  last_failure_at: NullableTimestamp;
  /** The first failure since the last success. */
  failing_since: NullableTimestamp;
  /** A user or an API key, which may be gone. */
  created_by: Fixed<string | null>;
  created_at: CreatedAt;
  updated_at: Timestamp;
  /** Grows with every change by a caller. */
  version: ColumnType<bigint, bigint | undefined, bigint>;
}

export type StoredDeliveryStatus = "PENDING" | "RETRYING" | "DELIVERED" | "FAILED" | "DISCARDED";

/** DeliveryAttempt of the contract, as it is stored. */
export type StoredAttempt = {
  /** ISO 8601. */
  startedAt: string;
  durationMs: number;
  status: number;
  body: string;
  error: string;
};

/** One message to one receiver. */
export interface DeliveriesTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  /** The webhook's id, or one derived from the channel and the address. */
  receiver: Fixed<string>;
  channel: Fixed<DeliveryChannel>;
  webhook_id: Fixed<string | null>;
  destination: string;
  message_id: Fixed<string>;
  event_type: string;
  /** The message's `{ type, timestamp, data }`. */
  payload: ColumnType<JsonObject, string, string>;
  subject_ids: string[];
  alert_rule_ids: string[];
  happenings: number;
  /** More may join it until it is due. */
  gathers: Generated<boolean>;
  status: StoredDeliveryStatus;
  attempts: ColumnType<StoredAttempt[], string | undefined, string>;
  attempt_count: Generated<number>;
  /** When it may be tried; null once it has ended. While it is being tried: when another process may take it over. */
  due_at: NullableTimestamp;
  /** Who tries it, or tried it last. */
  claim: string | null;
  created_at: ColumnType<Date, Date, never>;
  finished_at: NullableTimestamp;
  replay_of: ColumnType<string | null, string | null | undefined, never>;
  test: ColumnType<boolean, boolean | undefined, never>;
}
