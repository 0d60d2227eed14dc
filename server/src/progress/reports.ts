import type { Kysely } from "kysely";
import type { ProgressConfig } from "../config/progress.ts";
import { isGuarded } from "../db/commit-guard.ts";
import { GroupCommit, type Submission } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import type { DeltaRow } from "./delta.ts";
import { flushReports } from "./flush.ts";
import type { Outcome, Refusal } from "./fold.ts";
import { createPlainReports, isPlain } from "./plain-sums.ts";
import type { Report } from "./report.ts";

/** Reports and line issues of one transaction. */
const maxRowsPerFlush = 4_000;
/** One flush waits for the disk while the next is being written. */
const maxFlushes = 2;

/** Counts reports, whichever way they came. */
export interface ProgressReports {
  /** Commits a report together with others; what became of it, after the commit. Throws OVERLOADED. */
  submit(tenantId: string, report: Report): Promise<Outcome>;
}

/** `onChange` is told, after the commit, what has changed in which tenant. */
export function createProgressReports(
  db: Kysely<Database>,
  { graceMs, maxQueuedRows }: Pick<ProgressConfig, "graceMs" | "maxQueuedRows">,
  onChange: (tenantId: string, deltas: readonly DeltaRow[]) => void,
): ProgressReports {
  const tell = (changed: ReadonlyMap<string, readonly DeltaRow[]>) => {
    for (const [tenantId, deltas] of changed) onChange(tenantId, deltas);
  };
  const commits = new GroupCommit<Report, Outcome>({
    maxRowsPerFlush,
    maxFlushes,
    maxQueuedRows,
    flush: async (submissions) => tell(await flushReports(db, submissions, graceMs)),
    weigh: ({ request }) => 1 + request.errors.length + request.warnings.length,
  });
  /** In a transaction of its own, for a call whose effect is marked in it. */
  const commitAlone = async (tenantId: string, report: Report): Promise<Outcome> => {
    const submission: Submission<Report, Outcome> = { tenantId, rows: [report], results: [] };
    tell(await flushReports(db, [submission], graceMs));
    return submission.results[0] as Outcome;
  };
  const commit = (tenantId: string, report: Report): Promise<Outcome> =>
    commits.submit(tenantId, [report]).then(([outcome]) => outcome as Outcome);
  const plain = createPlainReports(db, { maxQueuedRows, tell, commitOtherwise: commit });
  return {
    submit(tenantId, report) {
      if (isGuarded()) return commitAlone(tenantId, report);
      if (!isPlain(report)) return commit(tenantId, report);
      return plain.submit(tenantId, report);
    },
  };
}

/** The error for a report that does not count. */
export function refusedReport(refusal: Refusal, updateId: string) {
  switch (refusal) {
    case "not-creator":
      return failure(ErrorReason.NOT_CREATOR, "Only the original creator can update this file's progress");
    case "completed":
      return failure(ErrorReason.ALREADY_COMPLETED, "This file processing has already been completed");
    case "conflict":
      return failure(
        ErrorReason.CONFLICT,
        "this update_id was used before for another report on this file; give each report an id of its own",
        { metadata: { id: updateId } },
      );
  }
}
