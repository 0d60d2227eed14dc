import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";

/** Rows say nothing to whoever reads them: hashes, and answers encrypted with keys that are stored nowhere. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table idempotency_keys (
      id bytea primary key check (octet_length(id) = 32),
      fingerprint bytea not null check (octet_length(fingerprint) = 32),
      attempt uuid not null,
      lease_until timestamptz not null,
      effect_at timestamptz,
      answer bytea,
      expires_at timestamptz not null
    );
    create index idempotency_keys_expires_at on idempotency_keys (expires_at);
    grant select, insert, update, delete on idempotency_keys to ${sql.raw(appRole)}`.execute(db);
}
