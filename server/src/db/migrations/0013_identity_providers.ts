import { type Kysely, sql } from "kysely";
import { protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table identity_providers (
      tenant_id uuid not null references tenants,
      id uuid not null,
      name text not null,
      issuer text not null,
      audiences text[] not null,
      allowed_email_domains text[] not null,
      claim_mapping jsonb not null,
      jwks_uri text,
      jwks_json text,
      algorithms text[] not null,
      create_users boolean not null,
      default_role text not null check (default_role in ('ADMIN', 'MEMBER', 'VIEWER')),
      highest_role text not null check (highest_role in ('OWNER', 'ADMIN', 'MEMBER', 'VIEWER')),
      created_at timestamptz not null default now(),
      keys_fetched_at timestamptz,
      keys_error text not null default '',
      primary key (tenant_id, id),
      unique (tenant_id, name),
      check (num_nonnulls(jwks_uri, jwks_json) = 1)
    )`.execute(db);
  await protectTenantTable(db, "identity_providers", ["select", "insert", "update", "delete"]);

  // One identity of an issuer is one user, and the other way round: an address that was given to somebody else does
  // not open the account of who had it before. The claim is part of it, for providers may read the subject elsewhere.
  await sql`
    create table external_identities (
      tenant_id uuid not null,
      issuer text not null,
      subject_claim text not null,
      subject text not null,
      user_id uuid not null,
      role_mapped boolean not null,
      created_at timestamptz not null default now(),
      primary key (tenant_id, issuer, subject_claim, subject),
      unique (tenant_id, user_id, issuer, subject_claim),
      foreign key (tenant_id, user_id) references users on delete cascade
    )`.execute(db);
  await protectTenantTable(db, "external_identities", ["select", "insert", "update"]);

  // Apart from email_verified, which a code of this server proves: a provider is the tenant's own, and what it says
  // counts in the tenant only.
  await sql`
    alter table users add column identity_provider_id uuid, add column email_vouched boolean not null default false
  `.execute(db);
}
