/** The composition root: builds every resource once, in order, and closes them in reverse. */
import { readFile } from "node:fs/promises";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Credentials } from "./auth/credentials.ts";
import { createKeyAuthenticator } from "./auth/keys/authenticate.ts";
import { createTokenAuthenticator } from "./auth/sessions/authenticate.ts";
import { openSigningKeys, type SigningKeys } from "./auth/signing-keys/keys.ts";
import { findTenantBySlug } from "./auth/tenants/store.ts";
import { createTokens, type Tokens } from "./auth/tokens.ts";
import type { Bus } from "./bus/bus.ts";
import { createPostgresBus } from "./bus/postgres.ts";
import { createRedisBus } from "./bus/redis.ts";
import type { Config } from "./config.ts";
import type { EmbeddedDatabase } from "./db/embedded.ts";
import { openDatabase } from "./db/open.ts";
import { ensurePartitions } from "./db/partitions.ts";
import type { Database } from "./db/schema.ts";
import { withLookup } from "./db/tenant.ts";
import { createEventIngest, type EventIngest } from "./ingestion/ingest.ts";
import { sweepExpired } from "./idempotency/sweep.ts";
import { type KeyRing, openKeyRing } from "./keyring.ts";
import type { ListenerTls } from "./listener/port.ts";
import { createSampleWriter, type SampleWriter } from "./metrics/write.ts";
import { createHealth, type Health } from "./ops/health.ts";
import type { Caller } from "./rpc/caller.ts";

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
  readonly keyring: KeyRing;
  readonly signingKeys: SigningKeys;
  readonly credentials: Credentials;
  readonly events: EventIngest;
  readonly samples: SampleWriter;
  readonly health: Health;
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

/** Builds the context. What was built is closed again when a later step fails. */
export async function createContext(config: Config, logger: Logger): Promise<Context> {
  await using built = new AsyncDisposableStack();
  const tls = config.tls && {
    cert: await readFile(config.tls.certFile),
    key: await readFile(config.tls.keyFile),
  };
  const { databaseUrl, migrationDatabaseUrl, dataDir, limits } = config;
  const { db, connection, embedded, close } = await openDatabase({
    logger,
    databaseUrl,
    migrationDatabaseUrl,
    dataDir,
    limits: { maxConnections: limits.databaseConnections },
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
  let publicCaller: Caller | undefined;
  const context = {
    config,
    logger,
    db,
    embedded,
    bus,
    tls,
    tokens,
    keyring,
    signingKeys,
    credentials: {
      fromApiKey: createKeyAuthenticator(db, config),
      fromToken: createTokenAuthenticator(tokens, config),
    },
    events: createEventIngest(db, config.limits),
    samples: createSampleWriter(db, config.limits),
    health: createHealth(),
    publicCaller: () => publicCaller,
    async findPublicTenant() {
      const tenantSlug = config.publicTenant;
      const tenant =
        tenantSlug && (await withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug)));
      if (tenant) publicCaller = anonymousIn(tenant.id);
    },
    shutdown: new AbortController(),
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
