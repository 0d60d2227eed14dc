/** What is sent to webhooks and to the targets of alert rules. */
import type { Settings } from "./setting-names.ts";
import { ConfigError, dayMs, integer, oneOf } from "./values.ts";

export interface WebhooksConfig {
  /** Whether receivers may be at http and private addresses, as on premises or in tests. Default: no. */
  readonly allowPrivate: boolean;
  /** How long an attempt may take, milliseconds. Default 15 s, at most 30 s. */
  readonly timeoutMs: number;
  /** Attempts of this process that may be under way at once, in all. Default 256. */
  readonly maxConcurrent: number;
  /** The same for one receiver. One that fails or is slow gets one at a time. */
  readonly maxConcurrentPerReceiver: number;
  /** Webhooks of one tenant. Default 100. */
  readonly maxPerTenant: number;
  /** How long messages to people are gathered, milliseconds. Default 30 s. */
  readonly groupWaitMs: number;
  /** How many happenings are gathered into one message at most. */
  readonly maxGathered: number;
  /** How long a delivery is tried, milliseconds. */
  readonly retryForMs: number;
  /** The first pause between two attempts; each further one is twice as long, up to `retryMaxMs`. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** A webhook whose attempts have all failed for so long is disabled. */
  readonly failingMs: number;
  /** How long deliveries are kept after their end, milliseconds. Default 30 days. */
  readonly keptMs: number;
  /** Test messages a minute to one webhook. */
  readonly testsPerMinute: number;
  /** Meta's Cloud API; undefined: no WhatsApp messages are sent. */
  readonly whatsapp: WhatsAppConfig | undefined;
}

export interface WhatsAppConfig {
  readonly token: string;
  /** Base of the API with its version. Default https://graph.facebook.com/v23.0. */
  readonly url: string;
  /** Id of the number that sends. */
  readonly phoneNumberId: string;
  /** An approved template with one parameter in its body; undefined: plain text, which Meta delivers only to people who
   * have written within the last 24 hours. */
  readonly template: { readonly name: string; readonly language: string } | undefined;
}

export function webhooksConfig(env: Settings): WebhooksConfig {
  return {
    allowPrivate: oneOf(env, "PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS", ["on", "off"]) === "on",
    timeoutMs: integer(env, "PULSEWIRE_WEBHOOK_TIMEOUT", 15, 1, 30) * 1_000,
    maxConcurrent: integer(env, "PULSEWIRE_WEBHOOK_CONCURRENCY", 256, 1, 10_000),
    maxConcurrentPerReceiver: 8,
    maxPerTenant: integer(env, "PULSEWIRE_WEBHOOKS_PER_TENANT", 100, 1, 10_000),
    groupWaitMs: integer(env, "PULSEWIRE_NOTIFICATION_GROUP_WAIT", 30, 0, 3_600) * 1_000,
    maxGathered: 1_000,
    retryForMs: 3 * dayMs,
    retryMinMs: 5_000,
    retryMaxMs: 6 * 3_600_000,
    failingMs: 5 * dayMs,
    keptMs: integer(env, "PULSEWIRE_DELIVERY_RETENTION", 30 * 86_400, 60, 3_650 * 86_400) * 1_000,
    testsPerMinute: 10,
    whatsapp: whatsapp(env),
  };
}

/** Meta's Cloud API, once there is a token for it. */
function whatsapp(env: Settings): WhatsAppConfig | undefined {
  const token = env.WHATSAPP_API_TOKEN;
  if (token === undefined) return undefined;
  const phoneNumberId = env.PULSEWIRE_WHATSAPP_PHONE_NUMBER_ID ?? "";
  if (!/^\d{1,40}$/.test(phoneNumberId)) {
    throw new ConfigError(
      "WHATSAPP_API_TOKEN is set, so PULSEWIRE_WHATSAPP_PHONE_NUMBER_ID must be the id, in digits, of the number that sends",
    );
  }
  const url = (env.PULSEWIRE_WHATSAPP_URL ?? "https://graph.facebook.com/v23.0").replace(/\/+$/, "");
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new ConfigError(
      `PULSEWIRE_WHATSAPP_URL is '${url}'; it must look like https://graph.facebook.com/v23.0`,
    );
  }
  const text = env.PULSEWIRE_WHATSAPP_TEMPLATE;
  if (text === undefined) return { token, url, phoneNumberId, template: undefined };
  const [, name, language] = /^([a-z0-9_]{1,512})\/([A-Za-z]{2,3}(?:_[A-Za-z]{2,4})?)$/.exec(text) ?? [];
  if (!name || !language) {
    throw new ConfigError(
      `PULSEWIRE_WHATSAPP_TEMPLATE is '${text}'; it must be a template's name and language, such as alert/en_US`,
    );
  }
  return { token, url, phoneNumberId, template: { name, language } };
}
