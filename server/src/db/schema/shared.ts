/** What belongs to no package: idempotent calls, and leases of work that one process does for all. */
import type { Fixed } from "./columns.ts";

/** By name. */
export interface SharedTables {
  idempotency_keys: IdempotencyKeysTable;
  leases: LeasesTable;
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

/** Work that one process of the installation does at a time. */
export interface LeasesTable {
  name: Fixed<string>;
  holder: string;
  /** Grows with every change of the holder. */
  fence: string;
  expires_at: Date;
}
