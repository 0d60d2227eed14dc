/**
 * All settings and limits, a file for each domain: `readEnv` takes what is set, `envToConfig` checks it and fills in the
 * defaults. A new setting is a name in `setting-names.ts` and a field of its domain.
 */
import { type AuthConfig, authConfig } from "./auth.ts";
import { type DatabaseConfig, databaseConfig } from "./database.ts";
import { type FunctionsConfig, functionsConfig } from "./functions.ts";
import { type IdempotencyConfig, idempotencyConfig } from "./idempotency.ts";
import { type IngestionConfig, ingestionConfig } from "./ingestion.ts";
import { type MailConfig, mailConfig } from "./mail.ts";
import { type MetricsConfig, metricsConfig } from "./metrics.ts";
import { type ProgressConfig, progressConfig } from "./progress.ts";
import { type ServerConfig, serverConfig } from "./server.ts";
import type { Settings } from "./setting-names.ts";
import { type TenantsConfig, tenantsConfig } from "./tenants.ts";
import { type WebhooksConfig, webhooksConfig } from "./webhooks.ts";

/** Everything that can be set, and every limit that is not the listener's or the database's own. */
export interface Config extends ServerConfig, DatabaseConfig {
  /** The embedded database: what an operator would have to configure has a stand-in. Codes are shown in the log. */
  readonly development: boolean;
  readonly auth: AuthConfig;
  readonly tenants: TenantsConfig;
  readonly idempotency: IdempotencyConfig;
  readonly ingestion: IngestionConfig;
  readonly metrics: MetricsConfig;
  readonly functions: FunctionsConfig;
  readonly progress: ProgressConfig;
  readonly webhooks: WebhooksConfig;
  readonly mail: MailConfig | undefined;
}

/** Checks settings and fills in defaults. Throws {@link ConfigError}. */
export function envToConfig(env: Settings): Config {
  const embedded = env.DATABASE_URL === undefined;
  return {
    development: embedded,
    ...serverConfig(env, embedded),
    ...databaseConfig(env),
    auth: authConfig(env, embedded),
    tenants: tenantsConfig(env, embedded),
    idempotency: idempotencyConfig(env),
    ingestion: ingestionConfig(env),
    metrics: metricsConfig(env),
    functions: functionsConfig(env),
    progress: progressConfig(env),
    webhooks: webhooksConfig(env),
    mail: mailConfig(env),
  };
}
