/** Tenants, users, keys and sessions, and the log of who did what. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { ColumnType, Generated } from "kysely";
import type { CreatedAt, Fixed, NullableTimestamp, Timestamp } from "./columns.ts";

/** By name. */
export interface AuthTables {
  tenants: TenantsTable;
  users: UsersTable;
  sessions: SessionsTable;
  login_failures: LoginFailuresTable;
  installation_secrets: InstallationSecretsTable;
  email_codes: EmailCodesTable;
  email_code_requests: EmailCodeRequestsTable;
  api_keys: ApiKeysTable;
  signing_keys: SigningKeysTable;
  identity_providers: IdentityProvidersTable;
  external_identities: ExternalIdentitiesTable;
  audit_entries: AuditEntriesTable;
}

export type Role = "OWNER" | "ADMIN" | "MEMBER" | "VIEWER";

export type TenantState = "ACTIVE" | "SUSPENDED";

export type UserState = "INVITED" | "ACTIVE" | "DISABLED";

export interface TenantsTable {
  id: Fixed<string>;
  /** Lower-case name in URLs and KRNs, unique in the installation. */
  slug: string;
  name: string;
  contact_email: string;
  state: Generated<TenantState>;
  /** The limits that were set for the tenant, as TenantLimits in ProtoJSON. */
  limits: ColumnType<JsonObject, string | undefined, string>;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

export interface UsersTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  /** In lower case; unique in the tenant. */
  email: string;
  display_name: string;
  password_hash: string | null;
  must_change_password: Generated<boolean>;
  /** Until when a temporary password is good; null for a password of one's own. */
  temporary_password_expires_at: NullableTimestamp;
  role: Role;
  state: Generated<UserState>;
  /** A code sent to the address was entered. */
  email_verified: Generated<boolean>;
  /** An identity provider of the tenant vouches for the address, which proves nothing to other tenants. */
  email_vouched: Generated<boolean>;
  /** The identity provider that the user came through. */
  identity_provider_id: string | null;
  /** The subject at the identity provider, or the `user_id` of a development token. */
  external_id: string | null;
  last_login_at: NullableTimestamp;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

/** People who are signed in. A session that has ended is deleted. */
export interface SessionsTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  user_id: Fixed<string>;
  /** Hash of the secret that all refresh tokens of the session share; null: it cannot be refreshed. */
  family_hash: Buffer | null;
  /** Hash of the secret of the latest refresh token. */
  refresh_hash: Buffer | null;
  /** Access tokens of another epoch are void. */
  epoch: Generated<number>;
  /** Opened with a temporary password: nothing may be administered. */
  restricted: Generated<boolean>;
  created_at: CreatedAt;
  expires_at: Timestamp;
}

/** Wrong passwords, by account, whether or not there is such an account. Belongs to no tenant. */
export interface LoginFailuresTable {
  /** Keyed hash of tenant slug and address. */
  account: Fixed<Buffer>;
  failures: number;
  locked_until: NullableTimestamp;
  forget_at: Timestamp;
}

/** Random keys of the installation. Belongs to no tenant. */
export interface InstallationSecretsTable {
  name: Fixed<string>;
  value: Fixed<Buffer>;
  created_at: CreatedAt;
}

/** Codes sent by e-mail that are still good. Belongs to no tenant. */
export interface EmailCodesTable {
  /** Keyed hash of the address. */
  address: Fixed<Buffer>;
  purpose: Fixed<CodePurpose>;
  /** Keyed hash of the code. */
  code_hash: Buffer;
  attempts: Generated<number>;
  expires_at: Timestamp;
}

export type CodePurpose = "LOGIN" | "PASSWORD_RECOVERY";

/** When codes were asked for, by address. Belongs to no tenant. */
export interface EmailCodeRequestsTable {
  address: Fixed<Buffer>;
  /** Those of the last hour. */
  requested_at: Date[];
  forget_at: Timestamp;
}

export interface ApiKeysTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: string;
  /** The first characters of the secret, to recognise a key by. */
  key_prefix: string;
  /** A hash of the whole secret, unique in the installation. */
  key_hash: Buffer;
  scopes: Generated<string[]>;
  /** The only stores that the key is good for; empty: all. */
  store_ids: Generated<string[]>;
  /** The only addresses that it may be used from, as prefixes; empty: all. */
  allowed_ip_ranges: Generated<string[]>;
  /** 0: no limit of its own. */
  requests_per_minute: Generated<number>;
  /** A user or another key, which may be gone; null: the server itself. */
  created_by: Fixed<string | null>;
  created_at: CreatedAt;
  expires_at: NullableTimestamp;
  /** Written in batches. */
  last_used_at: NullableTimestamp;
  last_used_address: Generated<string>;
  revoked_at: NullableTimestamp;
  /** The keys before and after it by rotation. */
  rotated_from: ColumnType<string | null, string | null | undefined, never>;
  rotated_to: string | null;
}

/** Keys of the installation that sign tokens. Belongs to no tenant. */
export interface SigningKeysTable {
  kid: Fixed<string>;
  algorithm: Fixed<string>;
  public_jwk: ColumnType<Record<string, unknown>, string, never>;
  /** A JWK in JSON or, where the operator gave an encryption key, a JWE of it. */
  private_key: string;
  /** From when on it signs; before, it is only published. */
  signs_from: Fixed<Date>;
  created_at: CreatedAt;
}

/** Outside issuers that a tenant trusts. */
export interface IdentityProvidersTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: Fixed<string>;
  issuer: Fixed<string>;
  audiences: Fixed<string[]>;
  allowed_email_domains: Fixed<string[]>;
  /** ClaimMapping in ProtoJSON. */
  claim_mapping: ColumnType<JsonObject, string, never>;
  /** Either this or `jwks_json`. */
  jwks_uri: ColumnType<string | null, string | undefined, never>;
  jwks_json: ColumnType<string | null, string | undefined, never>;
  algorithms: Fixed<string[]>;
  create_users: Fixed<boolean>;
  default_role: Fixed<Exclude<Role, "OWNER">>;
  /** The most that users it vouches for may be. */
  highest_role: Fixed<Role>;
  created_at: CreatedAt;
  keys_fetched_at: NullableTimestamp;
  /** Empty: they could be fetched the last time. */
  keys_error: Generated<string>;
}

/** Which user an identity of an outside issuer stands for. */
export interface ExternalIdentitiesTable {
  tenant_id: Fixed<string>;
  issuer: Fixed<string>;
  /** The claim that the subject is read from. */
  subject_claim: Fixed<string>;
  subject: Fixed<string>;
  user_id: Fixed<string>;
  /** The user's role came from the claim mapping. */
  role_mapped: boolean;
  created_at: CreatedAt;
}

/** One entry of a tenant's audit log, as AuditEntry of the contract has it. Never changed and never deleted. */
export interface AuditEntriesTable {
  tenant_id: Fixed<string>;
  /** From 1, without gaps. */
  sequence: Fixed<bigint>;
  id: Fixed<string>;
  /** Microseconds in the database; a Date keeps milliseconds only. */
  occurred_at: Fixed<Date | string>;
  actor_type: Fixed<string>;
  user_id: Fixed<string | null>;
  email: Fixed<string>;
  api_key_id: Fixed<string | null>;
  api_key_name: Fixed<string>;
  identity_provider_id: Fixed<string | null>;
  session_id: Fixed<string | null>;
  platform_admin: Fixed<boolean>;
  address: Fixed<string>;
  user_agent: Fixed<string>;
  method: Fixed<string>;
  resource_type: Fixed<string>;
  resource_id: Fixed<string>;
  outcome: Fixed<string>;
  error_reason: Fixed<string>;
  call_id: Fixed<string>;
  trace_id: Fixed<string>;
  details: ColumnType<JsonObject, string, never>;
  previous_hash: Fixed<Buffer>;
  hash: Fixed<Buffer>;
}
