import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import type { AuditEntry } from "../../gen/pulsewire/auth/v1/audit_pb.js";
import { invalidField } from "../../rpc/errors.ts";
import { firstPreviousHash, hashOfEntry } from "./entry.ts";
import { entryMessage } from "./messages.ts";
import { type ChainEnd, chainEnd, listEntries } from "./store.ts";

/** Most entries of one call, as the contract has it, and of one read. */
const maxEntries = 100_000n;
const readAtOnce = 500;

export interface Verification {
  readonly valid: boolean;
  readonly entriesVerified: bigint;
  readonly brokenSequence: bigint;
  readonly problem: string;
  readonly lastSequence: bigint;
  readonly lastHash: Uint8Array;
  readonly nextSequence: bigint;
}

/** Verifies entries `from` to `until` (0: all) of the tenant's chain, up to 100,000. Throws INVALID_FIELD. */
export async function verifyChain(
  db: Kysely<Database>,
  tenantId: string,
  { from, until, expectedHash }: { from: bigint; until: bigint; expectedHash: Uint8Array },
): Promise<Verification> {
  const first = from || 1n;
  const [newest, before] = await withTenant(db, tenantId, async (trx) => [
    await chainEnd(trx, tenantId),
    await chainEnd(trx, tenantId, first - 1n),
  ]);
  const end = newest?.sequence ?? 0n;
  const last = until || end;
  if (last > end) throw invalidField("until_sequence", `is past the end of the log, which is ${end}`);
  if (first > last && !(end === 0n && first === 1n)) {
    throw invalidField(
      "from_sequence",
      `must not be greater than ${until ? "until_sequence" : "the end"}, ${last}`,
    );
  }

  const stop = last - first + 1n > maxEntries ? first + maxEntries - 1n : last;
  let previous: ChainEnd | undefined = first === 1n ? { sequence: 0n, hash: firstPreviousHash } : before;
  let verified = 0n;
  const broken = (sequence: bigint, problem: string): Verification => ({
    valid: false,
    entriesVerified: verified,
    brokenSequence: sequence,
    problem,
    lastSequence: previous?.sequence ?? 0n,
    lastHash: verified > 0n ? (previous?.hash ?? new Uint8Array()) : new Uint8Array(),
    nextSequence: 0n,
  });
  if (!previous) return broken(first - 1n, `entry ${first - 1n}, the one before, is missing`);
  while (previous.sequence < stop) {
    const after: bigint = previous.sequence;
    const rows = await withTenant(db, tenantId, (trx) =>
      listEntries(trx, tenantId, {}, { oldestFirst: true, after, until: stop, limit: readAtOnce }),
    );
    if (rows.length === 0) return broken(after + 1n, `entry ${after + 1n} is missing`);
    for (const entry of rows.map(entryMessage)) {
      const problem = problemOf(entry, previous);
      if (problem) return broken(previous.sequence + 1n, problem);
      previous = entry;
      verified++;
    }
  }
  if (stop === last && expectedHash.length > 0 && Buffer.compare(previous.hash, expectedHash) !== 0) {
    return broken(
      last,
      `entry ${last} has another hash than expected_hash: the log was written anew or cut short`,
    );
  }
  return {
    valid: true,
    entriesVerified: verified,
    brokenSequence: 0n,
    problem: "",
    lastSequence: previous.sequence,
    lastHash: previous.sequence > 0n ? previous.hash : new Uint8Array(),
    nextSequence: stop < last ? stop + 1n : 0n,
  };
}

function problemOf(entry: AuditEntry, previous: ChainEnd): string | undefined {
  const expected = previous.sequence + 1n;
  if (entry.sequence !== expected) return `entry ${expected} is missing; the next is ${entry.sequence}`;
  if (Buffer.compare(entry.previousHash, previous.hash) !== 0) {
    return `entry ${expected} does not follow on entry ${previous.sequence}: its previous_hash is another`;
  }
  if (Buffer.compare(entry.hash, hashOfEntry(entry)) !== 0)
    return `entry ${expected} was changed: its hash is wrong`;
  return undefined;
}
