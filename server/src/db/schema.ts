import type { ColumnType, Generated, JSONColumnType } from "kysely";

/** The tables as the service sees them. Column by column the same as `server/schema.sql`. */
export interface Database {
  tenants: TenantsTable;
  users: UsersTable;
  api_keys: ApiKeysTable;
  signing_keys: SigningKeysTable;
  idempotency_keys: IdempotencyKeysTable;
  stores: StoresTable;
  series: SeriesTable;
  samples: SamplesTable;
  events: EventsTable;
  event_keys: EventKeysTable;
}

/** Set by the database on insert, may be given. */
type Timestamp = ColumnType<Date, Date | string | undefined, Date | string>;
type NullableTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>;
/** Set on insert and never changed. */
type Fixed<T> = ColumnType<T, T, never>;
type CreatedAt = ColumnType<Date, Date | string | undefined, never>;
type Labels = JSONColumnType<Record<string, string>, string | undefined, string>;

export type Role = "OWNER" | "ADMIN" | "MEMBER" | "VIEWER";

export interface TenantsTable {
  id: Fixed<string>;
  /** Lower-case name in URLs and KRNs, unique in the installation. */
  slug: string;
  name: string;
  contact_email: string;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

export interface UsersTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  /** Unique in the tenant whatever its case. */
  email: string;
  display_name: string;
  password_hash: string | null;
  must_change_password: Generated<boolean>;
  /** Until when a temporary password is good; null for a password of one's own. */
  temporary_password_expires_at: NullableTimestamp;
  role: Role;
  created_at: CreatedAt;
  updated_at: Timestamp;
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
  created_by: string | null;
  created_at: CreatedAt;
  expires_at: NullableTimestamp;
  revoked_at: NullableTimestamp;
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

/** Calls that carry a request id. Belongs to no tenant: some are made before one is known. */
export interface IdempotencyKeysTable {
  /** A hash of method, tenant, caller and request id. */
  id: Fixed<Buffer>;
  /** Tells the content apart, but only to whoever has the request id. */
  fingerprint: Buffer;
  /** The run that may take effect; another takes over when the lease has lapsed without any. */
  attempt: string;
  lease_until: Date;
  /** Set in the transaction of the effect itself. */
  effect_at: Date | null;
  /** Encrypted with a key that is stored nowhere. */
  answer: Buffer | null;
  expires_at: Date;
}

export interface StoresTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  name: string;
  description: Generated<string>;
  /** How often the store is expected to send. */
  expected_interval_ms: bigint | null;
  labels: Labels;
  created_at: CreatedAt;
  updated_at: Timestamp;
}

export interface SeriesTable {
  tenant_id: Fixed<string>;
  id: Fixed<string>;
  store_id: Fixed<string>;
  name: Fixed<string>;
  labels: ColumnType<Record<string, string>, string | undefined, never>;
  kind: string;
  unit: Generated<string>;
  created_at: CreatedAt;
}

export interface SamplesTable {
  tenant_id: Fixed<string>;
  series_id: Fixed<string>;
  /** Microseconds in the database; a Date keeps milliseconds only. */
  ts: Fixed<Date>;
  value: number;
}

export interface EventsTable {
  tenant_id: Fixed<string>;
  /** UUIDv7 made here: the order of receipt, and the partition. */
  id: Fixed<string>;
  /** The sender's own id. */
  event_id: Fixed<string>;
  event_type: Fixed<string>;
  user_id: Fixed<string | null>;
  session_id: Fixed<string | null>;
  severity: Fixed<number>;
  priority: Fixed<number>;
  occurred_at: Fixed<Date>;
  body: ColumnType<unknown, string, never>;
}

/** Recognises an event that is sent again. */
export interface EventKeysTable {
  tenant_id: Fixed<string>;
  /** Derived from the sender's id. */
  key: Fixed<string>;
  /** The event's `id`. */
  event_row: Fixed<string>;
  /** 16 bytes of a hash of the body: tells a duplicate from a conflict. */
  digest: Fixed<Buffer>;
}
