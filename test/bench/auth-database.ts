import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { ClientConfig } from "pg";
import { Client } from "pg";
import { pino } from "pino";
import { newResourceId } from "../../server/src/auth/ids.ts";
import { apiKeyPrefix, hashApiKey, newApiKey } from "../../server/src/auth/keys/secret.ts";
import { openSigningKeys } from "../../server/src/auth/signing-keys/keys.ts";
import { createTokens } from "../../server/src/auth/tokens.ts";
import { envToConfig } from "../../server/src/config/config.ts";
import { startEmbedded } from "../../server/src/db/embedded.ts";
import { migrate } from "../../server/src/db/migrate.ts";
import { createOwnerPool } from "../../server/src/db/pool.ts";
import { schemaName } from "../../server/src/db/roles.ts";
import { createKeyRing } from "../../server/src/keyring.ts";

/** A session that tokens can be issued for. */
interface Session {
  readonly tenantId: string;
  readonly userId: string;
  readonly sessionId: string;
}

/** A database full of tenants, keys and sessions, and the files of their secrets. */
export interface AuthDatabase extends AsyncDisposable {
  readonly postmaster: number;
  /** For servers. */
  readonly settings: Readonly<Record<string, string>>;
  /** The secrets of all keys. */
  readonly keysFile: string;
  readonly sessions: readonly Session[];
  /** Issues tokens as the server does, one for each session given, and returns the file that they are in. */
  issueTokens(name: string, sessions: readonly Session[]): Promise<string>;
  /** How often the service has run each statement so far. */
  statements(): Promise<ReadonlyMap<string, number>>;
}

export interface AuthDatabaseSize {
  readonly keys: number;
  readonly sessions: number;
}

/** Keys and sessions belong to them in turns. */
export const tenants = 100;

const insertRows = 5_000;
const logger = pino({ level: "silent" });

/** Makes the database in a folder, and fills it past the service: each key made, hashed and stored as the server does. */
export async function createAuthDatabase(dataDir: string, size: AuthDatabaseSize): Promise<AuthDatabase> {
  await using undo = new AsyncDisposableStack();
  const embedded = await startEmbedded({
    dataDir,
    logger,
    settings: { shared_preload_libraries: "pg_stat_statements", "pg_stat_statements.track_planning": "off" },
  });
  undo.defer(embedded.stop);
  const ownerConnection = embedded.connection("owner");
  await migrate(ownerConnection, { logger });
  const superuser = new Client({
    ...embedded.connection("superuser"),
    options: `-c search_path=${schemaName}`,
  });
  await superuser.connect();
  undo.defer(() => superuser.end());
  await superuser.query("create extension pg_stat_statements");

  const tenantIds = Array.from({ length: tenants }, () => newResourceId());
  await insertTenants(superuser, tenantIds);
  const keysFile = path.join(dataDir, "keys");
  await insertKeys(superuser, tenantIds, size.keys, keysFile);
  const sessions = await insertSessions(superuser, tenantIds, size.sessions);
  await superuser.query("analyze");

  const owner = createOwnerPool(ownerConnection, { logger });
  undo.defer(owner.close);
  const { auth } = envToConfig({});
  // An outside database has its keys in clear where no key encryption key is set, and these servers have none.
  const signingKeys = await openSigningKeys(owner.db, createKeyRing([]), auth, logger);
  undo.defer(async () => signingKeys.close());
  const tokens = createTokens(signingKeys, auth);

  const open = undo.move();
  return {
    postmaster: embedded.pid,
    settings: {
      DATABASE_URL: urlOf(embedded.connection("app")),
      PULSEWIRE_MIGRATION_DATABASE_URL: urlOf(ownerConnection),
    },
    keysFile,
    sessions,
    async issueTokens(name, of) {
      const file = path.join(dataDir, `tokens-${name}`);
      const issued = await Promise.all(of.map((session) => tokens.issue({ ...session, epoch: 0 })));
      await writeFile(file, issued.map((token) => `Bearer ${token}\n`).join(""), { mode: 0o600 });
      return file;
    },
    async statements() {
      const { rows } = await superuser.query<{ query: string; calls: number }>(
        `select query, sum(calls)::int as calls from pg_stat_statements
         where userid = 'pulsewire_app'::regrole group by query`,
      );
      return new Map(rows.map(({ query, calls }) => [query.replace(/\s+/g, " ").trim(), calls]));
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

async function insertTenants(client: Client, ids: readonly string[]): Promise<void> {
  await client.query(
    `insert into tenants (id, slug, name, contact_email)
     select id, 'tenant-' || n, 'Tenant ' || n, 'owner@tenant.example'
     from unnest($1::uuid[]) with ordinality as tenant (id, n)`,
    [ids],
  );
}

async function insertKeys(
  client: Client,
  tenantIds: readonly string[],
  count: number,
  file: string,
): Promise<void> {
  const secrets = Array.from({ length: count }, () => newApiKey());
  for (let from = 0; from < count; from += insertRows) {
    const some = secrets.slice(from, from + insertRows);
    await client.query(
      `insert into api_keys (tenant_id, id, name, key_prefix, key_hash, scopes)
       select tenant_id, id, 'gateway', key_prefix, key_hash, '{EVENTS_WRITE,METRICS_WRITE}'
       from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[]) as key (tenant_id, id, key_prefix, key_hash)`,
      [
        some.map((_, index) => tenantIds[index % tenantIds.length]),
        some.map(() => newResourceId()),
        some.map((secret) => apiKeyPrefix(secret)),
        some.map((secret) => hashApiKey(secret)),
      ],
    );
  }
  await writeFile(file, `${secrets.join("\n")}\n`, { mode: 0o600 });
}

async function insertSessions(
  client: Client,
  tenantIds: readonly string[],
  count: number,
): Promise<Session[]> {
  const users = tenantIds.map((tenantId) => ({ tenantId, userId: newResourceId() }));
  await client.query(
    `insert into users (tenant_id, id, email, display_name, role)
     select tenant_id, id, 'owner@tenant.example', 'Owner', 'OWNER'
     from unnest($1::uuid[], $2::uuid[]) as owner (tenant_id, id)`,
    [users.map(({ tenantId }) => tenantId), users.map(({ userId }) => userId)],
  );
  const sessions = Array.from({ length: count }, (_, index) => ({
    ...(users[index % users.length] as (typeof users)[number]),
    sessionId: randomUUID(),
  }));
  await client.query(
    `insert into sessions (tenant_id, id, user_id, expires_at)
     select tenant_id, id, user_id, now() + interval '30 days'
     from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as session (tenant_id, id, user_id)`,
    [
      sessions.map(({ tenantId }) => tenantId),
      sessions.map(({ sessionId }) => sessionId),
      sessions.map(({ userId }) => userId),
    ],
  );
  return sessions;
}

function urlOf({ user, host, port, database }: ClientConfig): string {
  return `postgres://${user}@${encodeURIComponent(host ?? "")}:${port}/${database}`;
}
