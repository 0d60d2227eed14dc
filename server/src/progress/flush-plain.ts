import { type Kysely, type Selectable, sql } from "kysely";
import { float8Array, int8Array, textArray, uuidArray } from "../db/binary-array.ts";
import type { Submission } from "../db/group-commit.ts";
import type { Database, ProgressFilesTable } from "../db/schema.ts";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import { uuidFromHash } from "../db/uuid.ts";
import { type DeltaRow, deltaOf } from "./delta.ts";
import { type FileState, fold, type Outcome } from "./fold.ts";
import { stateOf } from "./lock-files.ts";
import type { Report } from "./report.ts";

/** What became of a plain report; `undecided`: nothing, it is to be counted in the usual way. */
export type PlainOutcome =
  | Outcome
  | { readonly result: "undecided" }
  | { readonly result: "failed"; readonly error: unknown };

const undecided: PlainOutcome = { result: "undecided" };
const nothingKnown: ReadonlyMap<string, string> = new Map();

/** Whether a report only adds to counts: nothing else has to be stored, and no earlier report to be known. */
export function isPlain({ request, identity }: Report): boolean {
  const { total, isLast, errors, warnings } = request;
  return !identity && !isLast && total === 0n && errors.length === 0 && warnings.length === 0;
}

interface Sum {
  readonly key: string;
  readonly reports: Report[];
  done: bigint;
  warn: bigint;
  failed: bigint;
}

/**
 * Counts plain reports, in one statement and so one transaction for each tenant. Returns the changes of each
 * tenant. A report on a file that is new, completed or another's stays undecided; one tenant's failure is not another's.
 */
export async function flushPlainReports(
  db: Kysely<Database>,
  submissions: readonly Submission<Report, PlainOutcome>[],
): Promise<Map<string, readonly DeltaRow[]>> {
  const changed = new Map<string, readonly DeltaRow[]>();
  for (const [tenantId, calls] of Map.groupBy(submissions, (each) => each.tenantId)) {
    const files = new Map<string, Sum>();
    for (const { rows } of calls) for (const report of rows) add(files, report);
    const outcomes = new Map<Report, PlainOutcome>();
    try {
      const deltas = await addAll(db, tenantId, [...files.values()], outcomes);
      if (deltas.length > 0) changed.set(tenantId, deltas);
    } catch (error) {
      // Rolled back for another's sake: the usual way tries again.
      const outcome: PlainOutcome =
        classifyDatabaseError(error)?.kind === "retry" ? undecided : { result: "failed", error };
      for (const { reports } of files.values()) for (const report of reports) outcomes.set(report, outcome);
    }
    for (const call of calls) call.results = call.rows.map((report) => outcomes.get(report) ?? undecided);
  }
  return changed;
}

function add(files: Map<string, Sum>, report: Report): void {
  // Reports of different creators are different sums: one of them is refused.
  const { email, apiKeyId } = report.creator;
  const name = `${report.file}\n${email}\n${apiKeyId}`;
  let sum = files.get(name);
  if (!sum) {
    sum = { key: uuidFromHash(report.file), reports: [], done: 0n, warn: 0n, failed: 0n };
    files.set(name, sum);
  }
  sum.reports.push(report);
  const { counts } = report.request;
  if (!counts) return;
  sum.done += counts.done;
  sum.warn += counts.warn;
  sum.failed += counts.failed;
}

type Row = Selectable<ProgressFilesTable> & { readonly feed_sequence: bigint };

async function addAll(
  db: Kysely<Database>,
  tenantId: string,
  sums: readonly Sum[],
  outcomes: Map<Report, PlainOutcome>,
): Promise<readonly DeltaRow[]> {
  const creators = sums.map(({ reports }) => (reports[0] as Report).creator);
  // The function sets the tenant for its own transaction.
  const { rows } = await sql<Row>`/* kept as add_to_progress */
    select * from add_to_progress(
      ${tenantId}::uuid, ${uuidArray(sums.map(({ key }) => key))}::uuid[],
      ${textArray(creators.map(({ email }) => email))}::text[],
      ${textArray(creators.map(({ apiKeyId }) => apiKeyId))}::text[]::uuid[],
      ${int8Array(sums.map(({ done }) => done))}::bigint[], ${int8Array(sums.map(({ warn }) => warn))}::bigint[],
      ${int8Array(sums.map(({ failed }) => failed))}::bigint[], ${float8Array(sums.map(linesOf))}::float8[],
      ${new Date()}::timestamptz
    )`.execute(db);
  return rows.map((row) => {
    const sum = sums.find(({ key, reports }) => key === row.key && isBy(row, reports[0] as Report));
    if (!sum) throw new Error("a file was counted that nobody asked for");
    const after = stateOf(row);
    // From where it was the same steps lead to where it is, each with what its caller is to be told.
    const folded = fold(beforeOf(after, sum), sum.reports, nothingKnown, after.updatedAt, 0);
    sum.reports.forEach((report, index) => {
      outcomes.set(report, folded.outcomes[index] as Outcome);
    });
    return deltaOf(after, (sum.reports[0] as Report).request, row.feed_sequence);
  });
}

const linesOf = ({ done, warn, failed }: Sum): number => Number(done + warn + failed);

function isBy({ email, api_key_id }: Row, { creator }: Report): boolean {
  return email === creator.email && api_key_id === creator.apiKeyId;
}

function beforeOf(after: FileState, sum: Sum): FileState {
  return {
    ...after,
    done: after.done - sum.done,
    warn: after.warn - sum.warn,
    failed: after.failed - sum.failed,
    version: after.version - 1n,
    recent: after.recent - linesOf(sum),
  };
}
