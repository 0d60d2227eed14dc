import { type Kysely, sql } from "kysely";
import { Migrator } from "kysely/migration";
import type { ClientConfig } from "pg";
import type { Logger } from "pino";
import { migrations } from "./migrations/index.ts";
import { createOwnerPool } from "./pool.ts";
import { appRole, schemaName } from "./roles.ts";
import type { Database } from "./schema.ts";

/** The oldest PostgreSQL that is supported. */
export const minimumServerMajor = 15;

export interface MigrateOptions {
  readonly logger: Logger;
  /** The role the service logs in as, if it is not the owner: it is allowed to act as `pulsewire_app`. */
  readonly serviceUser?: string | undefined;
}

/**
 * Brings the schema up to date as its owner. Several servers may do so at once: one works, the others wait.
 * All missing migrations run in one transaction, so a failed upgrade leaves the old schema.
 * Throws for a server that is too old, for missing rights, and for a database that a newer release has migrated.
 */
export async function migrate(owner: ClientConfig, options: MigrateOptions): Promise<void> {
  const { db, close } = createOwnerPool(owner, options);
  try {
    await assertSupportedServer(db);
    const { error, results } = await new Migrator({
      db,
      provider: { getMigrations: async () => ({ ...migrations }) },
      migrationTableSchema: schemaName,
      migrationTableName: "schema_migrations",
      migrationLockTableName: "schema_migrations_lock",
    }).migrateToLatest();
    if (error) throw explain(error);
    for (const { migrationName } of results ?? []) options.logger.info({ migrationName }, "schema migrated");
    await allowRole(db, options.serviceUser);
  } finally {
    await close();
  }
}

async function assertSupportedServer(db: Kysely<Database>): Promise<void> {
  const { rows } = await sql<{
    version: string;
  }>`select current_setting('server_version') as version`.execute(db);
  const version = rows[0]?.version ?? "unknown";
  if (Number.parseInt(version, 10) >= minimumServerMajor) return;
  throw new Error(`PostgreSQL ${version} is not supported; ${minimumServerMajor} or newer is needed.`);
}

/** A role that is no superuser may act as another only when that was granted, even if it has made the other. */
async function allowRole(db: Kysely<Database>, serviceUser: string | undefined): Promise<void> {
  const lacking = async () => {
    const { rows } = await sql<{ user: string }>`
      select u as user from coalesce(${serviceUser ?? null}::name, current_user) as u
      where not pg_has_role(u, ${appRole}, case
        -- From 16 on a member may be one in name only, as the maker of a role is.
        when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)`.execute(db);
    return rows[0]?.user;
  };
  const user = await lacking();
  if (user === undefined) return;
  try {
    await sql`grant ${sql.id(appRole)} to ${sql.id(user)}`.execute(db);
  } catch (error) {
    // Another server that starts at this moment may have been first.
    if ((await lacking()) === undefined) return;
    throw new Error(
      `The database role ${user} may not act as ${appRole}. As an administrator, run: grant ${appRole} to "${user}"`,
      { cause: error },
    );
  }
}

const INSUFFICIENT_PRIVILEGE = "42501";

function explain(error: unknown): unknown {
  if (error instanceof Error && error.message.startsWith("corrupted migrations")) {
    return new Error(
      "The database was migrated by a newer release of Pulsewire. Run that release, or restore the backup made before.",
      { cause: error },
    );
  }
  if ((error as { code?: string }).code !== INSUFFICIENT_PRIVILEGE) return error;
  return new Error(
    "The database user may not migrate the schema: it needs CREATE on the database, and the right to create the role " +
      `${appRole} unless an administrator has made it. Another user for migrations can be given with ` +
      "PULSEWIRE_MIGRATION_DATABASE_URL.",
    { cause: error },
  );
}
