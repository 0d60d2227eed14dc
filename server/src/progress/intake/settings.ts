/** Settings of the connectors that take reports from Kafka and SQS. */
import type { Settings } from "../../config/setting-names.ts";
import { ConfigError, integer, oneOf } from "../../config/values.ts";

/** Where reports come from besides the API. */
export interface IntakeSettings {
  readonly kafka: KafkaSettings | undefined;
  readonly sqs: SqsSettings | undefined;
}

export interface KafkaSettings {
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly group: string;
  /** The clients that may be reported on; see `clientFilter`. */
  readonly clients: readonly string[];
  readonly tls: boolean;
  readonly sasl:
    | {
        readonly mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512";
        readonly username: string;
        readonly password: string;
      }
    | undefined;
}

export interface SqsSettings {
  readonly queueUrl: string;
  /** The server that has it; undefined: the one in its address. */
  readonly endpoint: string | undefined;
  readonly region: string;
  readonly clients: readonly string[];
  /** Where messages go that cannot be counted; undefined: into a table. */
  readonly deadLetterQueueUrl: string | undefined;
  /** How long a message is ours before it is given out again, seconds. */
  readonly visibilitySeconds: number;
  /** How many messages of ten are fetched side by side. */
  readonly consumers: number;
}

/** Reads them. Throws {@link ConfigError}. */
export function intakeSettings(env: Settings): IntakeSettings {
  return { kafka: kafkaSettings(env), sqs: sqsSettings(env) };
}

function kafkaSettings(env: Settings): KafkaSettings | undefined {
  const brokers = list(env.PULSEWIRE_KAFKA_BROKERS);
  if (brokers.length === 0) return undefined;
  const wrong = brokers.find((broker) => !/^(\[[0-9a-f:]+\]|[^\s:/]+):\d{1,5}$/i.test(broker));
  if (wrong !== undefined) {
    throw new ConfigError(
      `PULSEWIRE_KAFKA_BROKERS has '${wrong}'; each entry must be host:port, with commas between`,
    );
  }
  const username = env.PULSEWIRE_KAFKA_USERNAME;
  const mechanism = oneOf(env, "PULSEWIRE_KAFKA_SASL", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
  if ((username === undefined) !== (env.PULSEWIRE_KAFKA_PASSWORD === undefined)) {
    throw new ConfigError(
      "PULSEWIRE_KAFKA_USERNAME and PULSEWIRE_KAFKA_PASSWORD go together; set both or none",
    );
  }
  const {
    PULSEWIRE_KAFKA_TOPIC: topic = "progress-updates",
    PULSEWIRE_KAFKA_GROUP: group = "pulsewire-progress",
  } = env;
  if (!/^[\w.-]{1,249}$/.test(topic)) {
    throw new ConfigError(
      `PULSEWIRE_KAFKA_TOPIC is '${topic}'; a topic has 1 to 249 letters, digits, '.', '_' and '-'`,
    );
  }
  // Brokers would take it, but our client of Kafka refuses it, again and again, once it is to join.
  if (!/^\S+$/.test(group)) {
    throw new ConfigError(`PULSEWIRE_KAFKA_GROUP is '${group}'; the name must not be empty or have spaces`);
  }
  return {
    brokers,
    topic,
    group,
    clients: clients(env, "PULSEWIRE_KAFKA_CLIENTS", "PULSEWIRE_KAFKA_BROKERS"),
    tls: oneOf(env, "PULSEWIRE_KAFKA_TLS", ["on", "off"]) === "on",
    sasl:
      username === undefined
        ? undefined
        : {
            mechanism: mechanism ?? "SCRAM-SHA-512",
            username,
            password: env.PULSEWIRE_KAFKA_PASSWORD ?? "",
          },
  };
}

function sqsSettings(env: Settings): SqsSettings | undefined {
  const queueUrl = env.PULSEWIRE_SQS_QUEUE_URL;
  if (queueUrl === undefined) return undefined;
  const names = [
    "PULSEWIRE_SQS_QUEUE_URL",
    "PULSEWIRE_SQS_DEAD_LETTER_QUEUE_URL",
    "PULSEWIRE_SQS_ENDPOINT",
  ] as const;
  for (const name of names) {
    const url = env[name];
    if (url === undefined || (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))) continue;
    throw new ConfigError(
      `${name} is '${url}'; it must be an address such as https://sqs.us-east-1.amazonaws.com/123456789/pebbles-progress`,
    );
  }
  return {
    queueUrl,
    endpoint: env.PULSEWIRE_SQS_ENDPOINT,
    region: env.PULSEWIRE_SQS_REGION ?? /^https?:\/\/sqs\.([a-z0-9-]+)\./.exec(queueUrl)?.[1] ?? "us-east-1",
    clients: clients(env, "PULSEWIRE_SQS_CLIENTS", "PULSEWIRE_SQS_QUEUE_URL"),
    deadLetterQueueUrl: env.PULSEWIRE_SQS_DEAD_LETTER_QUEUE_URL,
    visibilitySeconds: integer(env, "PULSEWIRE_SQS_VISIBILITY", 30, 2, 43_200),
    consumers: integer(env, "PULSEWIRE_SQS_CONSUMERS", 4, 1, 64),
  };
}

const entryForm = /^(\*|krn:[a-z0-9-]+:client:[A-Za-z0-9._~-]*\*?)$/;

/** A connector has no credentials of a tenant, so it must be said for whom it may speak. */
function clients(
  env: Settings,
  name: "PULSEWIRE_KAFKA_CLIENTS" | "PULSEWIRE_SQS_CLIENTS",
  because: string,
): string[] {
  const entries = list(env[name]);
  const wrong = entries.find((entry) => !entryForm.test(entry));
  if (wrong === undefined && entries.length > 0) return entries;
  throw new ConfigError(
    `${name} ${wrong === undefined ? `must be set beside ${because}` : `has '${wrong}'`}; it lists the clients ` +
      "that may be reported on, such as krn:acme:client:*,krn:widgets:client:456, or * for all",
  );
}

function list(text = ""): string[] {
  return text
    .split(",")
    .map((entry) => entry.trim())
    .filter(Boolean);
}

/** Whether a client is among those of a connector: an entry that ends with `*` stands for all that begin like it. */
export function clientFilter(entries: readonly string[]): (clientKrn: string) => boolean {
  const exact = new Set(entries.filter((entry) => !entry.endsWith("*")));
  const beginnings = entries.filter((entry) => entry.endsWith("*")).map((entry) => entry.slice(0, -1));
  return (clientKrn) =>
    exact.has(clientKrn) || beginnings.some((beginning) => clientKrn.startsWith(beginning));
}
