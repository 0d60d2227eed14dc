import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";
import { protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // A session that has ended is deleted: whatever still names it is unknown.
  await sql`
    create table sessions (
      tenant_id uuid not null references tenants,
      id uuid not null,
      user_id uuid not null,
      family_hash bytea,
      refresh_hash bytea,
      epoch int not null default 0,
      restricted boolean not null default false,
      created_at timestamptz not null default now(),
      expires_at timestamptz not null,
      primary key (tenant_id, id),
      foreign key (tenant_id, user_id) references users on delete cascade
    );
    create index sessions_user on sessions (tenant_id, user_id)`.execute(db);
  await protectTenantTable(db, "sessions", ["select", "insert", "update", "delete"]);

  // Wrong passwords by a keyed hash of tenant slug and address, which need not exist: of no tenant, and names nobody.
  await sql`
    create table login_failures (
      account bytea primary key,
      failures int not null,
      locked_until timestamptz,
      forget_at timestamptz not null
    );
    create index login_failures_forget on login_failures (forget_at);
    grant select, insert, update, delete on login_failures to ${sql.raw(appRole)};

    create table installation_secrets (
      name text primary key,
      value bytea not null,
      created_at timestamptz not null default now()
    );
    grant select, insert on installation_secrets to ${sql.raw(appRole)}`.execute(db);
}
