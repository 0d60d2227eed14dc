/** The composition root: builds every resource once, in order, and closes them in reverse. */
import { readFile } from "node:fs/promises";
import { type Kysely, sql } from "kysely";
import type { Logger } from "pino";
import { type AuditLog, createAuditLog } from "./auth/audit/log.ts";
import { createEmailCodes, type EmailCodes } from "./auth/codes/codes.ts";
import type { Credentials } from "./auth/credentials.ts";
import { createExternalAuthenticator } from "./auth/identity-providers/authenticate.ts";
import { chooseByIssuer } from "./auth/issuers.ts";
import { createKeyAuthenticator } from "./auth/keys/authenticate.ts";
import { createKnownKeys, type KnownKeys } from "./auth/keys/known-keys.ts";
import { createLastUse } from "./auth/keys/last-use.ts";
import { openMac } from "./auth/mac.ts";
import { createLockout, type Lockout } from "./auth/passwords/lockout.ts";
import { createTokenAuthenticator } from "./auth/sessions/authenticate.ts";
import { createStandings, type Standings } from "./auth/sessions/standings.ts";
import { openSigningKeys, type SigningKeys } from "./auth/signing-keys/keys.ts";
import { sweepSecrets } from "./auth/sweep.ts";
import { createTenantSettings, type TenantSettingsCache } from "./auth/tenants/settings.ts";
import { findTenantBySlug } from "./auth/tenants/store.ts";
import { createTokens, type Tokens } from "./auth/tokens.ts";
import type { Bus } from "./bus/bus.ts";
import { createPostgresBus } from "./bus/postgres.ts";
import { createRedisBus } from "./bus/redis.ts";
import type { Config } from "./config/config.ts";
import type { EmbeddedDatabase } from "./db/embedded.ts";
import { openDatabase } from "./db/open.ts";
import { ensurePartitions } from "./db/partitions.ts";
import type { Database } from "./db/schema.ts";
import { withLookup } from "./db/tenant.ts";
import { registerFunctionMetrics } from "./functions/metrics.ts";
import { sweepExpired } from "./idempotency/sweep.ts";
import { Analytics } from "./ingestion/analytics/analytics.ts";
import {
  type AnalyticsAnswers,
  createLocalAnswers,
  createRedisAnswers,
} from "./ingestion/analytics/answers.ts";
import { createEventIngest, type EventIngest } from "./ingestion/ingest.ts";
import { createEventNews } from "./ingestion/news.ts";
import { type ProcessedCounter, registerProcessingMetrics } from "./ingestion/processing/figures.ts";
import { createEventTails, type EventTails } from "./ingestion/reading/tails.ts";
import { type KeyRing, openKeyRing } from "./keyring.ts";
import type { ListenerTls } from "./listener/port.ts";
import { createMailer, type Mailer, type MailTransport } from "./mail/mailer.ts";
import { createSmtpTransport } from "./mail/smtp.ts";
import { createActivity } from "./metrics/activity.ts";
import { createStoreNames } from "./metrics/standards/store-names.ts";
import type { IncomingParts } from "./metrics/standards/write-incoming.ts";
import { createUsage, type Usage } from "./metrics/usage/usage.ts";
import { createSampleWriter, type SampleWriter } from "./metrics/write.ts";
import { type CallMetrics, createCallMetrics } from "./ops/call-metrics.ts";
import { createHealth, type Health } from "./ops/health.ts";
import { createPrometheus, type Prometheus } from "./ops/prometheus.ts";
import { createIntakeMonitor, type IntakeMonitor } from "./progress/intake/figures.ts";
import { createProgressReports, type ProgressReports } from "./progress/reports.ts";
import { createProgressFeeds, type ProgressFeeds } from "./progress/watch/feeds.ts";
import type { Caller } from "./rpc/caller.ts";
import { createLocalWindows, createRedisWindows, type RateWindows } from "./rpc/rate-windows.ts";
import { type Channels, createChannels } from "./webhooks/channels/channels.ts";
import { type AttemptCounter, registerDeliveryMetrics } from "./webhooks/figures.ts";

/** What handlers and interceptors work with. */
export interface Context {
  readonly config: Config;
  readonly logger: Logger;
  readonly db: Kysely<Database>;
  /** Undefined with an outside PostgreSQL. */
  readonly embedded: EmbeddedDatabase | undefined;
  /** Tells all processes what has changed. */
  readonly bus: Bus;
  readonly tls: ListenerTls | undefined;
  readonly tokens: Tokens;
  /** What sessions may do now. */
  readonly standings: Standings;
  readonly lockout: Lockout;
  readonly codes: EmailCodes;
  /** Undefined where no mail server is configured. */
  readonly mailer: Mailer | undefined;
  /** What hands messages to the mail server, for who retries by themselves. */
  readonly mailTransport: MailTransport | undefined;
  /** The ways to webhooks and to the targets of alert rules. */
  readonly channels: Channels;
  readonly keyring: KeyRing;
  readonly signingKeys: SigningKeys;
  readonly credentials: Credentials;
  /** Enters calls in the audit logs of tenants. */
  readonly auditLog: AuditLog;
  /** Whether tenants are open, and their limits. */
  readonly tenantSettings: TenantSettingsCache;
  /** What tenants use and may use. */
  readonly usage: Usage;
  /** API keys that were seen lately. */
  readonly knownKeys: KnownKeys;
  /** Counts calls for rate limits. */
  readonly rateWindows: RateWindows;
  readonly events: EventIngest;
  readonly eventTails: EventTails;
  readonly analytics: Analytics;
  /** Analytics as they were answered lately. */
  readonly analyticsAnswers: AnalyticsAnswers;
  readonly samples: SampleWriter;
  /** Writes samples that come in the forms of open standards. */
  readonly incoming: IncomingParts;
  /** Counts reports of progress, whichever way they come. */
  readonly progressReports: ProgressReports;
  /** Everybody who watches progress. */
  readonly progressFeeds: ProgressFeeds;
  /** What was taken in from Kafka and SQS by this process. */
  readonly progressIntake: IntakeMonitor;
  readonly health: Health;
  /** Series for `/metrics`. */
  readonly prometheus: Prometheus;
  readonly callMetrics: CallMetrics;
  /** Counts what becomes of deliveries. */
  readonly deliveryAttempts: AttemptCounter;
  readonly processedEvents: ProcessedCounter;
  /** Who callers without credentials are, in methods that are open in the public tenant. */
  publicCaller(): Caller | undefined;
  /** Looks the public tenant up; to be called again when it may have been made. */
  findPublicTenant(): Promise<void>;
  /** Aborted, with the error for clients, when the server begins to shut down. */
  readonly shutdown: AbortController;
  /** Closes everything that was built. */
  close(): Promise<void>;
}

const partitionCheckMs = 6 * 3_600_000;

/** What is given in place of what the settings ask for. */
export interface ContextOverrides {
  /** An embedded database that another process runs. */
  readonly database?: { readonly app: string; readonly owner: string } | undefined;
  /** Where calls are counted, without Redis. */
  readonly rateWindows?: RateWindows;
}

/** Builds the context. What was built is closed again when a later step fails. */
export async function createContext(
  config: Config,
  logger: Logger,
  overrides: ContextOverrides = {},
): Promise<Context> {
  await using built = new AsyncDisposableStack();
  const tls = config.tls && {
    cert: await readFile(config.tls.certFile),
    key: await readFile(config.tls.keyFile),
  };
  const { databaseUrl, migrationDatabaseUrl, dataDir } = config;
  const { db, pool, connection, embedded, close } = await openDatabase({
    logger,
    databaseUrl: overrides.database?.app ?? databaseUrl,
    migrationDatabaseUrl: overrides.database?.owner ?? migrationDatabaseUrl,
    dataDir,
    limits: { maxConnections: config.databaseConnections },
  });
  built.defer(close);
  const bus = config.redisUrl
    ? await createRedisBus(config.redisUrl, logger)
    : await createPostgresBus(connection, logger);
  built.defer(() => bus.close());
  const partitions = setInterval(() => {
    ensurePartitions(db, new Date()).catch((err: unknown) =>
      logger.error({ err }, "no partitions could be made"),
    );
  }, partitionCheckMs);
  built.defer(() => clearInterval(partitions));

  const keyring = openKeyRing(config);
  const signingKeys = await openSigningKeys(db, keyring, config.auth, logger);
  built.defer(signingKeys.close);
  built.defer(sweepExpired(db, config.idempotency.ttlMs, logger));
  const tokens = createTokens(signingKeys, config.auth);
  const standings = createStandings(db, bus, logger, {
    size: config.auth.sessionCacheSize,
    ttlMs: config.auth.apiKeyCacheTtlSeconds * 1_000,
  });
  built.defer(standings.close);
  const mac = await openMac(db, [config.auth.jwtSecret, keyring.derive("mac")]);
  const mailTransport = config.mail && createSmtpTransport(config.mail);
  const mailer = mailTransport && createMailer(mailTransport, logger);
  if (mailer) built.defer(mailer.close);
  const channels = createChannels({ config, keyring, mailTransport });
  built.defer(channels.close);
  built.defer(sweepSecrets(db, logger));
  const tenantSettings = createTenantSettings(db, bus, config);
  built.defer(tenantSettings.close);
  const usage = createUsage(db, bus, tenantSettings, config, logger);
  built.defer(usage.close);
  const auditLog = createAuditLog(db, logger);
  built.defer(auditLog.close);
  const knownKeys = createKnownKeys(bus, config.auth);
  built.defer(knownKeys.close);
  const lastUse = createLastUse(db, logger, config.auth.apiKeyUseIntervalMs);
  built.defer(lastUse.close);
  const windows = { maxNames: config.countedCallers };
  const rateWindows = config.redisUrl
    ? await createRedisWindows(config.redisUrl, logger, windows)
    : (overrides.rateWindows ?? createLocalWindows(windows));
  built.defer(rateWindows.close);
  const external = createExternalAuthenticator({ db, bus, config, logger, standings });
  built.defer(external.close);
  const activity = createActivity(db, bus, logger);
  built.defer(activity.close);
  const shutdown = new AbortController();
  const progressFeeds = createProgressFeeds({
    db,
    bus,
    logger,
    tenantSettings,
    times: config.progress,
    shutdown: shutdown.signal,
  });
  built.defer(progressFeeds.close);
  const eventTails = createEventTails({ db, bus, logger }, shutdown.signal);
  built.defer(eventTails.close);
  const { analyticsTtlMs, analyticsCacheBytes } = config.ingestion;
  const analyticsAnswers = config.redisUrl
    ? await createRedisAnswers(config.redisUrl, logger, analyticsTtlMs)
    : createLocalAnswers(analyticsTtlMs);
  built.defer(analyticsAnswers.close);
  const prometheus = createPrometheus(config, logger);
  registerFunctionMetrics(prometheus.registry, db);
  const deliveryAttempts = registerDeliveryMetrics(prometheus.registry, db);
  const processedEvents = registerProcessingMetrics(prometheus.registry, db);
  const samples = createSampleWriter(db, pool, config.metrics, activity, usage, tenantSettings);
  let publicCaller: Caller | undefined;
  const context = {
    config,
    logger,
    db,
    embedded,
    bus,
    tls,
    tokens,
    standings,
    lockout: createLockout(db, mac, config.auth),
    codes: createEmailCodes(db, mac, config.auth),
    mailer,
    mailTransport,
    channels,
    keyring,
    signingKeys,
    auditLog,
    tenantSettings,
    usage,
    knownKeys,
    rateWindows,
    credentials: {
      fromApiKey: createKeyAuthenticator({ db, config, known: knownKeys, lastUse }),
      fromToken: chooseByIssuer(
        config.auth.issuer,
        createTokenAuthenticator(tokens, standings, config),
        external,
      ),
    },
    samples,
    incoming: { samples, storeNames: createStoreNames(db, config, auditLog), limits: config.metrics },
    progressReports: createProgressReports(db, config.progress, progressFeeds.tell),
    progressFeeds,
    events: createEventIngest(db, pool, config.ingestion, usage, createEventNews(bus, logger)),
    eventTails,
    analytics: new Analytics(db, analyticsCacheBytes),
    analyticsAnswers,
    progressIntake: createIntakeMonitor(prometheus.registry),
    prometheus,
    deliveryAttempts,
    processedEvents,
    callMetrics: createCallMetrics(prometheus.registry),
    health: createHealth([
      { name: "postgres", critical: true, check: () => sql`select 1`.execute(db).then(() => "up") },
      { name: "bus", critical: false, check: async () => (bus.connected ? "up" : "degraded") },
    ]),
    publicCaller: () => publicCaller,
    async findPublicTenant() {
      const tenantSlug = config.tenants.publicTenant;
      const tenant =
        tenantSlug && (await withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug)));
      if (tenant) publicCaller = anonymousIn(tenant.id);
    },
    shutdown,
  };
  await context.findPublicTenant();
  const resources = built.move();
  return { ...context, close: () => resources.disposeAsync() };
}

function anonymousIn(tenantId: string): Caller {
  return {
    kind: "anonymous",
    tenantId,
    userId: undefined,
    apiKeyId: undefined,
    sessionId: undefined,
    scopes: new Set(),
    storeIds: [],
    mustChangePassword: false,
  };
}
