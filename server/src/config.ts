/**
 * All settings: `readEnv` takes what is set, `envToConfig` checks it and fills in the defaults. No other file reads
 * the environment. Names of the five systems are kept where they exist; new ones begin with `PULSEWIRE_`.
 */
import { join, resolve } from "node:path";
import { type Prices, readPrices } from "./metrics/usage/prices.ts";
import { type IntakeSettings, intakeSettings } from "./progress/intake/settings.ts";
import type { ForwardedHeader } from "./rpc/client-address.ts";
import {
  ConfigError,
  developmentTokens,
  dockerHost,
  encryptionKeys,
  integer,
  logLevel,
  mail,
  metricsToken,
  oneOf,
  platformAdmins,
  redisUrl,
  trustedProxies,
  whatsapp,
} from "./setting-values.ts";

/** The environment as far as Pulsewire reads it. */
export const settingNames = [
  "HOST",
  "PORT",
  "LOG_LEVEL",
  "DATABASE_URL",
  "REDIS_URL",
  "JWT_SECRET_KEY",
  "WHATSAPP_API_TOKEN",
  "API_KEY_CACHE_TTL",
  "PULSEWIRE_DATA_DIR",
  "PULSEWIRE_ROLE",
  "PULSEWIRE_PROCESSES",
  "PULSEWIRE_MIGRATION_DATABASE_URL",
  "PULSEWIRE_DATABASE_CONNECTIONS",
  "PULSEWIRE_TLS_CERT_FILE",
  "PULSEWIRE_TLS_KEY_FILE",
  "PULSEWIRE_CORS_ORIGINS",
  "PULSEWIRE_TRUSTED_PROXIES",
  "PULSEWIRE_FORWARDED_HEADER",
  "PULSEWIRE_AUTH_RATE_LIMIT",
  "PULSEWIRE_API_KEY_USE_INTERVAL",
  "PULSEWIRE_PUBLIC_TENANT",
  "PULSEWIRE_REGISTRATION",
  "PULSEWIRE_PLATFORM_ADMINS",
  "PULSEWIRE_TENANT_LIMITS",
  "TENANT_LIMITS_CHECK_INTERVAL",
  "PULSEWIRE_USAGE_INTERVAL",
  "PULSEWIRE_PRICES",
  "PULSEWIRE_ACCESS_TOKEN_TTL",
  "PULSEWIRE_REFRESH_TOKEN_TTL",
  "PULSEWIRE_LOGIN_LOCK",
  "PULSEWIRE_DEDUPE_DAYS",
  "PULSEWIRE_DEVELOPMENT_TOKENS",
  "PULSEWIRE_DEVELOPMENT_TOKEN_TTL",
  "SMTP_URL",
  "PULSEWIRE_SMTP_URL",
  "PULSEWIRE_MAIL_FROM",
  "PULSEWIRE_TOKEN_ISSUER",
  "PULSEWIRE_KEY_ENCRYPTION_KEY",
  "PULSEWIRE_SIGNING_KEY_PERIOD",
  "PULSEWIRE_STREAM_WINDOW",
  "PULSEWIRE_SIGNING_KEY_LEAD",
  "PULSEWIRE_ALLOW_PRIVATE_ISSUERS",
  "PULSEWIRE_JWKS_CACHE_TTL",
  "PULSEWIRE_JWKS_COOLDOWN",
  "PULSEWIRE_IDEMPOTENCY_TTL",
  "PULSEWIRE_IDEMPOTENCY_LEASE",
  "PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS",
  "PULSEWIRE_WEBHOOK_TIMEOUT",
  "PULSEWIRE_WEBHOOK_CONCURRENCY",
  "PULSEWIRE_WEBHOOKS_PER_TENANT",
  "PULSEWIRE_NOTIFICATION_GROUP_WAIT",
  "PULSEWIRE_DELIVERY_RETENTION",
  "PULSEWIRE_WHATSAPP_URL",
  "PULSEWIRE_WHATSAPP_PHONE_NUMBER_ID",
  "PULSEWIRE_WHATSAPP_TEMPLATE",
  "PULSEWIRE_MAX_MESSAGE_BYTES",
  "PULSEWIRE_MAX_BATCH_EVENTS",
  "PULSEWIRE_MAX_BATCH_SAMPLES",
  "PULSEWIRE_MAX_QUEUED_BYTES",
  "PULSEWIRE_MAX_QUEUED_ROWS",
  "PULSEWIRE_SAMPLE_RETENTION_DAYS",
  "PULSEWIRE_ALERT_RETENTION_DAYS",
  "PULSEWIRE_EVENT_ATTEMPTS",
  "PULSEWIRE_EVENT_RETENTION_DAYS",
  "PULSEWIRE_ROLLUP_RETENTION_DAYS",
  "PULSEWIRE_WATCH_CURSOR_HOURS",
  "PULSEWIRE_SAMPLE_COMPACTION_AGE",
  "PULSEWIRE_DRAIN_TIMEOUT",
  "PULSEWIRE_PROGRESS_GRACE",
  "PULSEWIRE_PROGRESS_STALL",
  "PULSEWIRE_PROGRESS_DELTA_RETENTION",
  "PULSEWIRE_PROGRESS_UPDATE_ID_RETENTION",
  "PULSEWIRE_PROGRESS_WATCHERS",
  "PULSEWIRE_FUNCTIONS_RUNTIME",
  "PULSEWIRE_DOCKER_HOST",
  "PULSEWIRE_DOCKER_NETWORK",
  "PULSEWIRE_KUBECONFIG",
  "PULSEWIRE_FUNCTIONS_REPLICAS",
  "PULSEWIRE_FUNCTIONS_CPU",
  "PULSEWIRE_FUNCTIONS_MEMORY",
  "PULSEWIRE_FUNCTIONS_QUEUE",
  "PULSEWIRE_FUNCTIONS_CONCURRENCY",
  "PULSEWIRE_FUNCTIONS_LOG_RETENTION",
  "PULSEWIRE_FUNCTIONS_LOG_BYTES",
  "PULSEWIRE_FUNCTIONS_LOG_BUFFER",
  "PULSEWIRE_FUNCTIONS_RETENTION",
  "PULSEWIRE_METRICS_TOKEN",
  "PULSEWIRE_KAFKA_BROKERS",
  "PULSEWIRE_KAFKA_TOPIC",
  "PULSEWIRE_KAFKA_GROUP",
  "PULSEWIRE_KAFKA_CLIENTS",
  "PULSEWIRE_KAFKA_TLS",
  "PULSEWIRE_KAFKA_SASL",
  "PULSEWIRE_KAFKA_USERNAME",
  "PULSEWIRE_KAFKA_PASSWORD",
  "PULSEWIRE_SQS_QUEUE_URL",
  "PULSEWIRE_SQS_REGION",
  "PULSEWIRE_SQS_ENDPOINT",
  "PULSEWIRE_SQS_CLIENTS",
  "PULSEWIRE_SQS_DEAD_LETTER_QUEUE_URL",
  "PULSEWIRE_SQS_VISIBILITY",
  "PULSEWIRE_SQS_CONSUMERS",
] as const;

export type SettingName = (typeof settingNames)[number];
export type Settings = Partial<Record<SettingName, string>>;

/** What a process does. */
export type Role = "serve" | "api" | "worker";

export interface Config {
  /** `api` answers calls, `worker` does the background work, `serve`, the default, does both. Health is answered by all. */
  readonly role: Role;
  /** Processes that share the port. Default 1. */
  readonly processes: number;
  /** Where to listen. 127.0.0.1 with the embedded database, 0.0.0.0 with an outside one. */
  readonly host: string;
  /** 0 picks a free port. Default 8080. */
  readonly port: number;
  /** Certificate and key files in PEM; without them the port is cleartext. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
  /** Browser origins that may call; `*` for all (credentials are headers, never cookies).
   * Default: all with the embedded database, none with an outside one. */
  readonly corsOrigins: readonly string[];
  /** Addresses and prefixes of the proxies that are believed about where a call came from. Default: none. */
  readonly trustedProxies: readonly string[];
  /** The header that these proxies write. Default x-forwarded-for. */
  readonly forwardedHeader: ForwardedHeader;
  /** pino's levels, in any case; `WARNING` and `CRITICAL` are understood. Default info. */
  readonly logLevel: string;
  /** Folder of the embedded database and its secrets. */
  readonly dataDir: string;
  /** Outside PostgreSQL; undefined: embedded. */
  readonly databaseUrl: string | undefined;
  /** Carries messages between processes and counts calls for rate limits; undefined: PostgreSQL and each process do. */
  readonly redisUrl: string | undefined;
  /** The owner's connection, where the service's own user is not the owner. */
  readonly migrationDatabaseUrl: string | undefined;
  /** The embedded database: what an operator would have to configure has a stand-in. Codes are shown in the log. */
  readonly development: boolean;
  /** Whether anyone gets a token. Default: with the embedded database on loopback only. */
  readonly developmentTokens: boolean;
  /** The mail server and the sender's address; undefined: no e-mail is sent. */
  readonly mail: { readonly smtpUrl: string; readonly from: string } | undefined;
  /** Slug of the tenant whose open reads need no credentials; undefined: none. */
  readonly publicTenant: string | undefined;
  /** Whether anyone may register a tenant. Default: open. */
  readonly registrationOpen: boolean;
  /** Who holds PLATFORM_ADMIN, as `email/slug` in lower case; see `isPlatformAdmin`. Default: nobody. */
  readonly platformAdmins: ReadonlySet<string>;
  /** Limits of tenants for which none is set, by the names of TenantLimits; 0: without limit, the default of all. */
  readonly tenantLimits: TenantLimitDefaults;
  readonly usage: {
    /** How often a process reads what a tenant with limits used, beside what it hears of others, milliseconds. Default 1 hour. */
    readonly checkIntervalMs: number;
    /** How often a process writes the calls, stores and series that it has noted, milliseconds. Default 1 s, at most a minute. */
    readonly noteIntervalMs: number;
    /** What cost is reckoned by. Default: nothing costs anything. */
    readonly prices: Prices;
  };
  /** 32 bytes each: the first encrypts the secrets that the database keeps, all decrypt them. Default: none with an
   * outside database; with the embedded one, a key that is made in the data folder. */
  readonly keyEncryptionKeys: readonly Buffer[];
  readonly auth: {
    /** Given: tokens are signed with HS256 and this secret; otherwise EdDSA with keys from the database. */
    readonly jwtSecret: string | undefined;
    /** `iss` of tokens. */
    readonly issuer: string;
    /** Life of an access token, seconds. Default 3,600. */
    readonly accessTokenTtlSeconds: number;
    /** Life of a refresh token, and so of a session that is not used, seconds. Default 30 days. */
    readonly refreshTokenTtlSeconds: number;
    /** Life of a development token, seconds. Default 86,400. */
    readonly developmentTokenTtlSeconds: number;
    /** How long a key signs tokens before the next one does, milliseconds. Default 30 days. */
    readonly signingKeyPeriodMs: number;
    /** How long before it signs a key stands in the JWKS, milliseconds. Default 1 hour. */
    readonly signingKeyLeadMs: number;
    /** How long a checked API key is trusted without a look at the database, seconds. Default 300. */
    readonly apiKeyCacheTtlSeconds: number;
    /** How often the last use of API keys is written, milliseconds. Default 20 s, at most a minute. */
    readonly apiKeyUseIntervalMs: number;
  };
  readonly identity: {
    /** Whether identity providers may be at http and private addresses, as on premises or in tests. Default: no. */
    readonly allowPrivateIssuers: boolean;
    /** How long their keys are kept before they are fetched again, milliseconds. Default 10 minutes. */
    readonly jwksCacheMs: number;
    /** How often an unknown key id may cause a fetch, milliseconds. Default 30 s. */
    readonly jwksCooldownMs: number;
  };
  readonly idempotency: {
    /** How long the answer to a call with a request id is kept, milliseconds. Default 24 hours. */
    readonly ttlMs: number;
    /** For how long a call with a request id may run before a repetition takes over, milliseconds. Default 30 s. */
    readonly leaseMs: number;
  };
  readonly progress: {
    /** How long after its completion a file still takes reports with an `update_id`, milliseconds. Default 60 s. */
    readonly graceMs: number;
    /** Without a report for so long, a file counts as stalled, milliseconds. Default 5 minutes. */
    readonly stallMs: number;
    /** How far back watchers can resume, milliseconds. Default 1 hour. */
    readonly deltaRetentionMs: number;
    /** How long after its completion a file's update ids are known, milliseconds. Default 32 days, the least. */
    readonly updateIdRetentionMs: number;
    /** Streams of WatchProgress in this process. Default 100,000. */
    readonly maxWatchers: number;
    /** Where the worker takes reports from besides the API. */
    readonly intake: IntakeSettings;
  };
  /** What becomes of events after their commit. */
  readonly processing: {
    /** How often a batch of events is tried whole before those that fail are given up. Default 5. */
    readonly maxAttempts: number;
    /** How long events are kept, from their receipt, in days. Default 90; 0: for ever. */
    readonly eventRetentionDays: number;
    /** How long rollups are kept, from when events happened, in days. Default 400; 0: for ever. */
    readonly rollupRetentionDays: number;
    /** For how long a cursor of WatchEvents is good, milliseconds. Default 7 days. */
    readonly watchCursorMs: number;
    /** How long analytics are answered from memory, milliseconds. */
    readonly analyticsTtlMs: number;
    /** Rollups that a process keeps for analytics, bytes. */
    readonly analyticsCacheBytes: number;
  };
  readonly functions: FunctionsConfig;
  /** What is sent to webhooks and to the targets of alert rules. */
  readonly webhooks: WebhookSettings;
  /** Meta's Cloud API; undefined: no WhatsApp messages are sent. */
  readonly whatsapp: WhatsAppSettings | undefined;
  /** Bearer token for `GET /metrics`; undefined: served without one in development, not at all elsewhere. */
  readonly metricsToken: string | undefined;
  readonly limits: Limits;
}

/** What runs functions. */
export type RuntimeName = "docker" | "kubernetes" | "process";

/** How functions are run, and what a tenant may use. */
export interface FunctionsConfig {
  /** Undefined, the default: functions are accepted and stay PENDING. */
  readonly runtime: RuntimeName | undefined;
  /** Folder of the `process` runtime's files. */
  readonly processDir: string;
  /** Docker Engine API, also Podman's. Default unix:///var/run/docker.sock. */
  readonly dockerHost: string;
  /** `tenant`, the default: each tenant's containers have a bridge network of their own; `none`; or a network's name. */
  readonly dockerNetwork: string;
  /** File; undefined: the cluster that the server runs in, or the usual file. */
  readonly kubeconfig: string | undefined;
  /** Replicas and warm containers of all functions of a tenant. Default 100; 0: without limit, here and below. */
  readonly replicasPerTenant: number;
  /** Processor time of these, thousandths of a core. Default 32,000. */
  readonly cpuPerTenant: number;
  /** Memory of these, bytes. Default 32 GiB. */
  readonly memoryPerTenant: number;
  /** Invocations of a tenant that have not ended; beyond, calls are refused. Default 1,000. */
  readonly queuedPerTenant: number;
  /** Invocations of a tenant that run at the same time; others wait. Default 10. */
  readonly runningPerTenant: number;
  /** How long log lines are kept, milliseconds. Default 7 days. */
  readonly logRetentionMs: number;
  /** How much of a function's log is kept, bytes as stored. Default 256 MiB. */
  readonly logBytes: number;
  /** How much output the Docker engine keeps of one container until it is read, bytes. Default 512 MiB. */
  readonly logBufferBytes: number;
  /** How long invocations and deleted functions are kept, milliseconds. Default 30 days. */
  readonly retentionMs: number;
}

export interface WebhookSettings {
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
}

export interface WhatsAppSettings {
  readonly token: string;
  /** Base of the API with its version. Default https://graph.facebook.com/v23.0. */
  readonly url: string;
  /** Id of the number that sends. */
  readonly phoneNumberId: string;
  /** An approved template with one parameter in its body; undefined: plain text, which Meta delivers only to people who
   * have written within the last 24 hours. */
  readonly template: { readonly name: string; readonly language: string } | undefined;
}

/** A field of TenantLimits in the contract. */
export const tenantLimitNames = [
  "stores",
  "series",
  "users",
  "functions",
  "apiKeys",
  "eventsPerDay",
  "samplesPerDay",
  "costBudgetMicros",
  "requestsPerMinute",
] as const;
export type TenantLimitName = (typeof tenantLimitNames)[number];
export type TenantLimitDefaults = Readonly<Record<TenantLimitName, bigint>>;

/** Every limit of the service that is not the listener's or the database's own. */
export interface Limits {
  /** Largest request message after decompression, bytes. Default 16 MiB. */
  readonly maxMessageBytes: number;
  /** Events in one batch. Default 1,000 (Event Processor). */
  readonly maxBatchEvents: number;
  /** Samples in one batch. Default 20,000. */
  readonly maxBatchSamples: number;
  /** Largest single event, encoded, bytes. */
  readonly maxEventBytes: number;
  /** Rows of calls that wait for a commit, for events and samples each; beyond, calls are refused. Default 200,000. */
  readonly maxQueuedRows: number;
  /** For how many days event ids are recognised when they are sent again; 33 or more, for the contract promises 32. Default 33. */
  readonly dedupeDays: number;
  /** Batches of one StreamEvents that are written at once. Default 16. */
  readonly streamWindow: number;
  /** Bytes of events that wait for a commit; beyond, calls are refused. Default 64 MiB. */
  readonly maxQueuedBytes: number;
  /** Database connections of this process. Default 16. */
  readonly databaseConnections: number;
  /** How long running calls may take to finish after SIGTERM, milliseconds. Default 30 s. */
  readonly drainTimeoutMs: number;
  /** Wrong passwords for an account before one more locks it. */
  readonly loginFreeFailures: number;
  /** How long the first lock of an account lasts, milliseconds; each further wrong password doubles it. Default 1 s. */
  readonly loginLockMs: number;
  /** The longest lock. */
  readonly loginLockMaxMs: number;
  /** After how long without a wrong password they are forgotten. */
  readonly loginFailureMemoryMs: number;
  /** Sign-ins to one account that may wait for each other in this process. */
  readonly loginQueue: number;
  /** Life of an e-mail code, milliseconds. */
  readonly codeTtlMs: number;
  /** How long until another code can be asked for. */
  readonly codeResendMs: number;
  /** Codes for one address in an hour. */
  readonly codesPerHour: number;
  /** Attempts that a code has. */
  readonly codeAttempts: number;
  /** Sessions whose standing is remembered. */
  readonly sessionCacheSize: number;
  /** API keys whose check is remembered. */
  readonly apiKeyCacheSize: number;
  /** Wrong API keys that are remembered to be wrong. */
  readonly unknownApiKeyCacheSize: number;
  /** Open calls of AuthService a minute from one client address. Default 100 (Event Processor); 0: without limit. */
  readonly authCallsPerMinute: number;
  /** Addresses, keys and tenants whose calls are counted in this process at the same time. */
  readonly countedCallers: number;
  /** Series whose existence is remembered. */
  readonly seriesCacheSize: number;
  /** For how many days, the present one not counted, samples are kept; 0: for ever. Default 400. */
  readonly sampleRetentionDays: number;
  /** After how long the samples of a tenant are compacted though they are few, milliseconds. Default 15 minutes. */
  readonly sampleCompactionAgeMs: number;
  /** How long alerts are kept after they were resolved, days; 0: for ever. Default 400. */
  readonly alertRetentionDays: number;
  /** Alert rules of a tenant. */
  readonly maxAlertRules: number;
  /** Silences of a tenant that are not over. */
  readonly maxSilences: number;
  /** Series that a back-test reads. */
  readonly maxBacktestSeries: number;
  /** How far a sample may lie in the past, milliseconds. */
  readonly maxSampleAgeMs: number;
  /** How far a sample may lie in the future, milliseconds. */
  readonly maxSampleAheadMs: number;
}

/** Takes the settings from an environment. Empty values count as not set. */
export function readEnv(env: Readonly<Record<string, string | undefined>>): Settings {
  const settings: Settings = {};
  for (const name of settingNames) if (env[name]) settings[name] = env[name];
  return settings;
}

const megabyte = 1024 * 1024;
const dayMs = 86_400_000;

/** Checks settings and fills in defaults. Throws {@link ConfigError}. */
export function envToConfig(env: Settings): Config {
  const embedded = env.DATABASE_URL === undefined;
  if (!env.PULSEWIRE_TLS_CERT_FILE !== !env.PULSEWIRE_TLS_KEY_FILE) {
    throw new ConfigError("PULSEWIRE_TLS_CERT_FILE and PULSEWIRE_TLS_KEY_FILE go together; set both or none");
  }
  const jwtSecret = env.JWT_SECRET_KEY;
  if (jwtSecret !== undefined && Buffer.byteLength(jwtSecret) < 32) {
    throw new ConfigError(
      "JWT_SECRET_KEY is too short for HS256; use at least 32 bytes, such as `openssl rand -hex 32`",
    );
  }
  const signingKeyPeriod = integer(env, "PULSEWIRE_SIGNING_KEY_PERIOD", 30 * 86_400, 2, 3_650 * 86_400);
  const signingKeyLead = integer(
    env,
    "PULSEWIRE_SIGNING_KEY_LEAD",
    Math.min(3_600, signingKeyPeriod - 1),
    1,
    86_400,
  );
  if (signingKeyLead >= signingKeyPeriod) {
    throw new ConfigError("PULSEWIRE_SIGNING_KEY_LEAD must be less than PULSEWIRE_SIGNING_KEY_PERIOD");
  }
  return {
    role: oneOf(env, "PULSEWIRE_ROLE", ["serve", "api", "worker"]) ?? "serve",
    processes: integer(env, "PULSEWIRE_PROCESSES", 1, 1, 64),
    host: env.HOST ?? (embedded ? "127.0.0.1" : "0.0.0.0"),
    port: integer(env, "PORT", 8080, 0, 65_535),
    tls:
      env.PULSEWIRE_TLS_CERT_FILE && env.PULSEWIRE_TLS_KEY_FILE
        ? { certFile: env.PULSEWIRE_TLS_CERT_FILE, keyFile: env.PULSEWIRE_TLS_KEY_FILE }
        : undefined,
    corsOrigins:
      env.PULSEWIRE_CORS_ORIGINS?.split(",").map((origin) => origin.trim()) ?? (embedded ? ["*"] : []),
    trustedProxies: trustedProxies(env),
    forwardedHeader:
      oneOf(env, "PULSEWIRE_FORWARDED_HEADER", ["x-forwarded-for", "forwarded"]) ?? "x-forwarded-for",
    logLevel: logLevel(env.LOG_LEVEL),
    dataDir: resolve(env.PULSEWIRE_DATA_DIR ?? ".pulsewire"),
    databaseUrl: env.DATABASE_URL,
    redisUrl: redisUrl(env),
    migrationDatabaseUrl: env.PULSEWIRE_MIGRATION_DATABASE_URL,
    development: embedded,
    developmentTokens: developmentTokens(env, embedded),
    mail: mail(env),
    publicTenant: env.PULSEWIRE_PUBLIC_TENANT ?? (embedded ? demoTenantSlug : undefined),
    registrationOpen: oneOf(env, "PULSEWIRE_REGISTRATION", ["open", "closed"]) !== "closed",
    platformAdmins: platformAdmins(env.PULSEWIRE_PLATFORM_ADMINS),
    tenantLimits: tenantLimits(env.PULSEWIRE_TENANT_LIMITS),
    usage: {
      checkIntervalMs: integer(env, "TENANT_LIMITS_CHECK_INTERVAL", 3_600, 1, 86_400) * 1_000,
      noteIntervalMs: integer(env, "PULSEWIRE_USAGE_INTERVAL", 1, 1, 60) * 1_000,
      prices: readPrices(env.PULSEWIRE_PRICES),
    },
    keyEncryptionKeys: env.PULSEWIRE_KEY_ENCRYPTION_KEY
      ? encryptionKeys(env.PULSEWIRE_KEY_ENCRYPTION_KEY)
      : [],
    auth: {
      jwtSecret,
      issuer: env.PULSEWIRE_TOKEN_ISSUER ?? "pulsewire",
      accessTokenTtlSeconds: integer(env, "PULSEWIRE_ACCESS_TOKEN_TTL", 3_600, 60, 7 * 86_400),
      refreshTokenTtlSeconds: integer(env, "PULSEWIRE_REFRESH_TOKEN_TTL", 30 * 86_400, 60, 366 * 86_400),
      developmentTokenTtlSeconds: integer(env, "PULSEWIRE_DEVELOPMENT_TOKEN_TTL", 86_400, 60, 366 * 86_400),
      signingKeyPeriodMs: signingKeyPeriod * 1_000,
      signingKeyLeadMs: signingKeyLead * 1_000,
      apiKeyCacheTtlSeconds: integer(env, "API_KEY_CACHE_TTL", 300, 0, 86_400),
      apiKeyUseIntervalMs: integer(env, "PULSEWIRE_API_KEY_USE_INTERVAL", 20, 1, 60) * 1_000,
    },
    identity: {
      allowPrivateIssuers: oneOf(env, "PULSEWIRE_ALLOW_PRIVATE_ISSUERS", ["on", "off"]) === "on",
      jwksCacheMs: integer(env, "PULSEWIRE_JWKS_CACHE_TTL", 600, 1, 86_400) * 1_000,
      jwksCooldownMs: integer(env, "PULSEWIRE_JWKS_COOLDOWN", 30, 1, 3_600) * 1_000,
    },
    idempotency: {
      ttlMs: integer(env, "PULSEWIRE_IDEMPOTENCY_TTL", 86_400, 1, 30 * 86_400) * 1_000,
      leaseMs: integer(env, "PULSEWIRE_IDEMPOTENCY_LEASE", 30, 1, 3_600) * 1_000,
    },
    progress: {
      graceMs: integer(env, "PULSEWIRE_PROGRESS_GRACE", 60, 0, 86_400) * 1_000,
      stallMs: integer(env, "PULSEWIRE_PROGRESS_STALL", 300, 1, 30 * 86_400) * 1_000,
      deltaRetentionMs: integer(env, "PULSEWIRE_PROGRESS_DELTA_RETENTION", 3_600, 1, 30 * 86_400) * 1_000,
      updateIdRetentionMs: integer(env, "PULSEWIRE_PROGRESS_UPDATE_ID_RETENTION", 32, 32, 3_660) * dayMs,
      maxWatchers: integer(env, "PULSEWIRE_PROGRESS_WATCHERS", 100_000, 1, 10_000_000),
      intake: intakeSettings(env),
    },
    processing: {
      maxAttempts: integer(env, "PULSEWIRE_EVENT_ATTEMPTS", 5, 1, 100),
      eventRetentionDays: integer(env, "PULSEWIRE_EVENT_RETENTION_DAYS", 90, 0, 36_500),
      rollupRetentionDays: integer(env, "PULSEWIRE_ROLLUP_RETENTION_DAYS", 400, 0, 36_500),
      watchCursorMs: integer(env, "PULSEWIRE_WATCH_CURSOR_HOURS", 168, 1, 8_760) * 3_600_000,
      analyticsTtlMs: 10_000,
      analyticsCacheBytes: 256 * megabyte,
    },
    functions: {
      runtime: oneOf(env, "PULSEWIRE_FUNCTIONS_RUNTIME", ["docker", "kubernetes", "process"]),
      processDir: join(resolve(env.PULSEWIRE_DATA_DIR ?? ".pulsewire"), "functions"),
      dockerHost: dockerHost(env),
      dockerNetwork: env.PULSEWIRE_DOCKER_NETWORK ?? "tenant",
      kubeconfig: env.PULSEWIRE_KUBECONFIG,
      replicasPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_REPLICAS", 100, 0, 1_000_000),
      cpuPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_CPU", 32_000, 0, 1_000_000_000),
      memoryPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_MEMORY", 32_768 * megabyte, 0, 2 ** 50),
      queuedPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_QUEUE", 1_000, 0, 1_000_000),
      runningPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_CONCURRENCY", 10, 1, 100_000),
      logRetentionMs:
        integer(env, "PULSEWIRE_FUNCTIONS_LOG_RETENTION", 7 * 86_400, 1, 3_650 * 86_400) * 1_000,
      logBytes: integer(env, "PULSEWIRE_FUNCTIONS_LOG_BYTES", 256 * megabyte, megabyte, 2 ** 50),
      logBufferBytes: integer(env, "PULSEWIRE_FUNCTIONS_LOG_BUFFER", 512 * megabyte, 16 * megabyte, 2 ** 40),
      retentionMs: integer(env, "PULSEWIRE_FUNCTIONS_RETENTION", 30 * 86_400, 1, 3_650 * 86_400) * 1_000,
    },
    metricsToken: metricsToken(env),
    webhooks: {
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
    },
    whatsapp: whatsapp(env),
    limits: {
      maxMessageBytes: integer(env, "PULSEWIRE_MAX_MESSAGE_BYTES", 16 * megabyte, 65_536, 256 * megabyte),
      maxBatchEvents: integer(env, "PULSEWIRE_MAX_BATCH_EVENTS", 1_000, 1, 100_000),
      maxBatchSamples: integer(env, "PULSEWIRE_MAX_BATCH_SAMPLES", 20_000, 1, 1_000_000),
      maxEventBytes: 256 * 1024,
      maxQueuedRows: integer(env, "PULSEWIRE_MAX_QUEUED_ROWS", 200_000, 1_000, 10_000_000),
      dedupeDays: integer(env, "PULSEWIRE_DEDUPE_DAYS", 33, 33, 3_650),
      streamWindow: integer(env, "PULSEWIRE_STREAM_WINDOW", 16, 1, 1_000),
      maxQueuedBytes: integer(env, "PULSEWIRE_MAX_QUEUED_BYTES", 64 * megabyte, megabyte, 16_384 * megabyte),
      databaseConnections: integer(env, "PULSEWIRE_DATABASE_CONNECTIONS", 16, 4, 1_000),
      drainTimeoutMs: integer(env, "PULSEWIRE_DRAIN_TIMEOUT", 30, 0, 3_600) * 1_000,
      loginFreeFailures: 4,
      loginLockMs: integer(env, "PULSEWIRE_LOGIN_LOCK", 1, 1, 900) * 1_000,
      loginLockMaxMs: 15 * 60_000,
      loginFailureMemoryMs: dayMs,
      loginQueue: 64,
      codeTtlMs: 10 * 60_000,
      codeResendMs: 30_000,
      codesPerHour: 10,
      codeAttempts: 5,
      sessionCacheSize: 100_000,
      apiKeyCacheSize: 100_000,
      unknownApiKeyCacheSize: 10_000,
      authCallsPerMinute: integer(env, "PULSEWIRE_AUTH_RATE_LIMIT", 100, 0, 1_000_000_000),
      countedCallers: 100_000,
      seriesCacheSize: 500_000,
      sampleCompactionAgeMs: integer(env, "PULSEWIRE_SAMPLE_COMPACTION_AGE", 900, 1, 86_400) * 1_000,
      sampleRetentionDays: integer(env, "PULSEWIRE_SAMPLE_RETENTION_DAYS", 400, 0, 36_500),
      alertRetentionDays: integer(env, "PULSEWIRE_ALERT_RETENTION_DAYS", 400, 0, 36_500),
      maxAlertRules: 10_000,
      maxSilences: 10_000,
      maxBacktestSeries: 1_000,
      maxSampleAgeMs: 30 * dayMs,
      maxSampleAheadMs: dayMs,
    },
  };
}

/** The tenant that the embedded default creates. */
export const demoTenantSlug = "demo";

function tenantLimits(text = ""): TenantLimitDefaults {
  const limits = Object.fromEntries(tenantLimitNames.map((name) => [name, 0n])) as Record<
    TenantLimitName,
    bigint
  >;
  for (const entry of text.split(",").map((part) => part.trim())) {
    if (!entry) continue;
    const [, word, value] = /^([a-z_]+)=(\d{1,15})$/.exec(entry) ?? [];
    const name = tenantLimitNames.find((candidate) => snakeCase(candidate) === word);
    if (!name || value === undefined) {
      throw new ConfigError(
        `PULSEWIRE_TENANT_LIMITS has '${entry}'; each entry must be a name, '=' and a whole number, such as ` +
          `users=100, with commas between; the names are ${tenantLimitNames.map(snakeCase).join(", ")}`,
      );
    }
    limits[name] = BigInt(value);
  }
  return limits;
}

/** A name of the code as the contract spells it. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
