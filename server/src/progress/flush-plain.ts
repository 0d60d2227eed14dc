import { type Kysely, type Selectable, sql } from "kysely";
import { float8Array, int8Array, textArray, uuidArray } from "../db/binary-array.ts";
import type { Submission } from "../db/group-commit.ts";
import type { ProgressFilesTable } from "../db/schema/progress.ts";
import type { Database } from "../db/schema.ts";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import { uuidFromHash } from "../db/uuid.ts";
import { type DeltaRow, deltaOf } from "./delta.ts";
import type { FileState } from "./fold.ts";
import { stateOf } from "./lock-files.ts";
import type { Sum } from "./plain-sums.ts";

/** What became of a sum; `undecided`: nothing, its reports are to be counted in the usual way. */
export type SumOutcome =
  | { readonly result: "counted"; readonly file: FileState }
  | { readonly result: "undecided" }
  | { readonly result: "failed"; readonly error: unknown };

const undecided: SumOutcome = { result: "undecided" };

/**
 * Counts plain reports, in one statement and so one transaction for each tenant. Returns the changes of each
 * tenant. A sum for a file that is new, completed or another's stays undecided; one tenant's failure is not another's.
 */
export async function flushSums(
  db: Kysely<Database>,
  submissions: readonly Submission<Sum, SumOutcome>[],
): Promise<Map<string, readonly DeltaRow[]>> {
  const changed = new Map<string, readonly DeltaRow[]>();
  for (const { rows } of submissions) for (const sum of rows) sum.isTaken = true;
  for (const [tenantId, calls] of Map.groupBy(submissions, (each) => each.tenantId)) {
    const sums = calls.flatMap(({ rows }) => rows);
    const outcomes = new Map<Sum, SumOutcome>();
    try {
      const deltas = await addAll(db, tenantId, sums, outcomes);
      if (deltas.length > 0) changed.set(tenantId, deltas);
    } catch (error) {
      // Rolled back for another's sake: the usual way tries again.
      const outcome: SumOutcome =
        classifyDatabaseError(error)?.kind === "retry" ? undecided : { result: "failed", error };
      for (const sum of sums) outcomes.set(sum, outcome);
    }
    for (const call of calls) call.results = call.rows.map((sum) => outcomes.get(sum) ?? undecided);
  }
  return changed;
}

type Row = Selectable<ProgressFilesTable> & { readonly feed_sequence: bigint };

async function addAll(
  db: Kysely<Database>,
  tenantId: string,
  sums: readonly Sum[],
  outcomes: Map<Sum, SumOutcome>,
): Promise<readonly DeltaRow[]> {
  const keys = sums.map(({ first }) => uuidFromHash(first.file));
  const creators = sums.map(({ first }) => first.creator);
  // The function sets the tenant for its own transaction.
  const { rows } = await sql<Row>`/* kept as add_to_progress */
    select * from add_to_progress(
      ${tenantId}::uuid, ${uuidArray(keys)}::uuid[],
      ${textArray(creators.map(({ email }) => email))}::text[],
      ${textArray(creators.map(({ apiKeyId }) => apiKeyId))}::text[]::uuid[],
      ${int8Array(sums.map(({ done }) => done))}::bigint[], ${int8Array(sums.map(({ warn }) => warn))}::bigint[],
      ${int8Array(sums.map(({ failed }) => failed))}::bigint[], ${float8Array(sums.map(({ lines }) => lines))}::float8[],
      ${new Date()}::timestamptz
    )`.execute(db);
  return rows.map((row) => {
    const sum = sums.find((each, index) => keys[index] === row.key && isBy(row, each));
    if (!sum) throw new Error("a file was counted that nobody asked for");
    const file = stateOf(row);
    outcomes.set(sum, { result: "counted", file });
    return deltaOf(file, sum.first.request, row.feed_sequence);
  });
}

function isBy({ email, api_key_id }: Row, { first: { creator } }: Sum): boolean {
  return email === creator.email && api_key_id === creator.apiKeyId;
}
