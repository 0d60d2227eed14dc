import { type Selectable, sql } from "kysely";
import type { AuditEntriesTable } from "../../db/schema/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { AuditEntry } from "../../gen/pulsewire/auth/v1/audit_pb.js";
import { firstPreviousHash, hashOfEntry } from "./entry.ts";
import { entryColumns, entryMessage, type NewEntry } from "./messages.ts";

export type AuditEntryRow = Omit<Selectable<AuditEntriesTable>, "occurred_at"> & {
  /** Microseconds since 1970. */
  readonly occurred_us: bigint;
};

/** The end of a tenant's chain. */
export interface ChainEnd {
  readonly sequence: bigint;
  readonly hash: Uint8Array;
}

/**
 * Adds an entry to the tenant's chain. Whoever adds another waits until this transaction ends, so it is the last thing
 * to do in one; it must be at read committed, the default.
 */
export async function appendEntry(
  trx: TenantTransaction,
  tenantId: string,
  facts: NewEntry,
): Promise<AuditEntry> {
  // A statement of its own: the next one must see what the transaction before has committed.
  await sql`select pg_advisory_xact_lock(hashtextextended(${`audit ${tenantId}`}, 0))`.execute(trx);
  const last = await chainEnd(trx, tenantId);
  const { occurred_us, details, ...row } = {
    ...entryColumns(tenantId, facts),
    sequence: (last?.sequence ?? 0n) + 1n,
    previous_hash: Buffer.from(last?.hash ?? firstPreviousHash),
  };
  const entry = entryMessage({ ...row, occurred_us, details, hash: Buffer.alloc(0) });
  entry.hash = hashOfEntry(entry);
  await trx
    .insertInto("audit_entries")
    .values({
      ...row,
      occurred_at: isoOfMicros(occurred_us),
      details: JSON.stringify(details),
      hash: Buffer.from(entry.hash),
    })
    .execute();
  return entry;
}

/** The newest entry, or the one with this number. */
export function chainEnd(
  trx: TenantTransaction,
  tenantId: string,
  sequence?: bigint,
): Promise<ChainEnd | undefined> {
  let select = trx
    .selectFrom("audit_entries")
    .select(["sequence", "hash"])
    .where("tenant_id", "=", tenantId)
    .orderBy("sequence", "desc")
    .limit(1);
  if (sequence !== undefined) select = select.where("sequence", "=", sequence);
  return select.executeTakeFirst();
}

/** Which entries; what is undefined or empty does not narrow. */
export interface EntryQuery {
  readonly userId: string;
  readonly apiKeyId: string;
  readonly methods: readonly string[];
  readonly resourceType: string;
  readonly resourceId: string;
  readonly outcome: string;
  readonly addressRange: string;
  readonly occurredFrom: Date | undefined;
  readonly occurredUntil: Date | undefined;
}

/** How to page through entries: those beyond `after`, up to `until`. */
export interface EntryRange {
  readonly oldestFirst: boolean;
  readonly after?: bigint | undefined;
  readonly until?: bigint | undefined;
  readonly limit: number;
}

/** A page of entries by number. */
export function listEntries(
  trx: TenantTransaction,
  tenantId: string,
  query: Partial<EntryQuery>,
  { oldestFirst, after, until, limit }: EntryRange,
): Promise<AuditEntryRow[]> {
  let select = trx
    .selectFrom("audit_entries")
    .selectAll()
    .select(sql<bigint>`(extract(epoch from occurred_at) * 1000000)::bigint`.as("occurred_us"))
    .where("tenant_id", "=", tenantId)
    .orderBy("sequence", oldestFirst ? "asc" : "desc")
    .limit(limit);
  if (after !== undefined) select = select.where("sequence", oldestFirst ? ">" : "<", after);
  if (until !== undefined) select = select.where("sequence", "<=", until);
  if (query.userId) select = select.where("user_id", "=", query.userId);
  if (query.apiKeyId) select = select.where("api_key_id", "=", query.apiKeyId);
  if (query.methods?.length) select = select.where("method", "in", query.methods);
  if (query.resourceType) select = select.where("resource_type", "=", query.resourceType);
  if (query.resourceId) select = select.where("resource_id", "=", query.resourceId);
  if (query.outcome) select = select.where("outcome", "=", query.outcome);
  if (query.occurredFrom) select = select.where("occurred_at", ">=", query.occurredFrom);
  if (query.occurredUntil) select = select.where("occurred_at", "<", query.occurredUntil);
  if (query.addressRange) {
    select = select.where(
      sql<boolean>`case when address = '' then false else address::inet <<= ${query.addressRange}::inet end`,
    );
  }
  return select.execute();
}

/** A timestamp for PostgreSQL, whose microseconds a Date would lose. */
function isoOfMicros(micros: bigint): string {
  const iso = new Date(Number(micros / 1_000n)).toISOString();
  return iso.replace("Z", `${String(micros % 1_000n).padStart(3, "0")}Z`);
}
