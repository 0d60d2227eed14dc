import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";
import { protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table tenants (
      id uuid primary key,
      slug text not null unique,
      name text not null,
      contact_email text not null,
      state text not null default 'ACTIVE' check (state in ('ACTIVE', 'SUSPENDED')),
      limits jsonb not null default '{}',
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now()
    )`.execute(db);
  await protectTenantTable(db, "tenants", ["select", "insert", "update"], "id");

  await sql`
    create table users (
      tenant_id uuid not null references tenants,
      id uuid not null,
      email text not null check (email = lower(email)),
      display_name text not null,
      password_hash text,
      must_change_password boolean not null default false,
      temporary_password_expires_at timestamptz,
      role text not null check (role in ('OWNER', 'ADMIN', 'MEMBER', 'VIEWER')),
      state text not null default 'ACTIVE' check (state in ('INVITED', 'ACTIVE', 'DISABLED')),
      email_verified boolean not null default false,
      external_id text,
      last_login_at timestamptz,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      primary key (tenant_id, id)
    );
    create unique index users_email on users (tenant_id, email)`.execute(db);
  await protectTenantTable(db, "users", ["select", "insert", "update", "delete"]);

  await sql`
    create table api_keys (
      tenant_id uuid not null references tenants,
      id uuid not null,
      name text not null,
      key_prefix text not null,
      key_hash bytea not null,
      scopes text[] not null default '{}',
      store_ids uuid[] not null default '{}',
      allowed_ip_ranges text[] not null default '{}',
      requests_per_minute integer not null default 0 check (requests_per_minute >= 0),
      created_by uuid,
      created_at timestamptz not null default now(),
      expires_at timestamptz,
      last_used_at timestamptz,
      last_used_address text not null default '',
      revoked_at timestamptz,
      rotated_from uuid,
      rotated_to uuid,
      primary key (tenant_id, id)
    );
    create unique index api_keys_key_hash on api_keys (key_hash)`.execute(db);
  await protectTenantTable(db, "api_keys", ["select", "insert", "update"]);

  // The two reads before the tenant is known: whoever has the whole secret, or names the slug, sees that one row.
  await sql`
    create policy lookup on tenants for select
      using (slug = nullif(current_setting('pulsewire.lookup_slug', true), ''));
    create policy lookup on api_keys for select
      using (key_hash = decode(nullif(current_setting('pulsewire.lookup_key_hash', true), ''), 'hex'))
  `.execute(db);

  await sql`
    create table signing_keys (
      kid text primary key,
      algorithm text not null,
      public_jwk jsonb not null,
      private_key text not null,
      signs_from timestamptz not null,
      created_at timestamptz not null default now()
    );
    grant select, insert, update, delete on signing_keys to ${sql.raw(appRole)}`.execute(db);
}
