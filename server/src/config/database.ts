/** Where things are kept: PostgreSQL, embedded or outside, the data folder, Redis, and the keys of what is encrypted. */
import { resolve } from "node:path";
import type { Settings } from "./setting-names.ts";
import { ConfigError, integer } from "./values.ts";

export interface DatabaseConfig {
  /** Folder of the embedded database and its secrets. */
  readonly dataDir: string;
  /** Outside PostgreSQL; undefined: embedded. */
  readonly databaseUrl: string | undefined;
  /** The owner's connection, where the service's own user is not the owner. */
  readonly migrationDatabaseUrl: string | undefined;
  /** Database connections of this process. Default 16. */
  readonly databaseConnections: number;
  /** Carries messages between processes and counts calls for rate limits; undefined: PostgreSQL and each process do. */
  readonly redisUrl: string | undefined;
  /** 32 bytes each: the first encrypts the secrets that the database keeps, all decrypt them. Default: none with an
   * outside database; with the embedded one, a key that is made in the data folder. */
  readonly keyEncryptionKeys: readonly Buffer[];
}

export function databaseConfig(env: Settings): DatabaseConfig {
  return {
    dataDir: dataDir(env),
    databaseUrl: env.DATABASE_URL,
    migrationDatabaseUrl: env.PULSEWIRE_MIGRATION_DATABASE_URL,
    databaseConnections: integer(env, "PULSEWIRE_DATABASE_CONNECTIONS", 16, 4, 1_000),
    redisUrl: redisUrl(env),
    keyEncryptionKeys: env.PULSEWIRE_KEY_ENCRYPTION_KEY
      ? encryptionKeys(env.PULSEWIRE_KEY_ENCRYPTION_KEY)
      : [],
  };
}

/** The folder of what is kept in files. */
export function dataDir({ PULSEWIRE_DATA_DIR: folder = ".pulsewire" }: Settings): string {
  return resolve(folder);
}

/** Rows of calls that may wait for a commit, of each kind: events, samples, reports of progress. */
export function maxQueuedRows(env: Settings): number {
  return integer(env, "PULSEWIRE_MAX_QUEUED_ROWS", 200_000, 1_000, 10_000_000);
}

/** A Redis URL. */
function redisUrl({ REDIS_URL: text }: Settings): string | undefined {
  if (text === undefined || (URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol))) return text;
  throw new ConfigError("REDIS_URL must look like redis://user:password@host:6379/0, or rediss:// for TLS");
}

/** Reads PULSEWIRE_KEY_ENCRYPTION_KEY: keys of 32 bytes in base64, with commas. */
export function encryptionKeys(text: string): Buffer[] {
  return text.split(",").map((part) => {
    const key = Buffer.from(part.trim(), "base64");
    if (key.length === 32) return key;
    throw new ConfigError(
      "PULSEWIRE_KEY_ENCRYPTION_KEY must be 32 bytes in base64, such as `openssl rand -base64 32`, " +
        "or several with commas",
    );
  });
}
