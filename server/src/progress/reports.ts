import type { Kysely } from "kysely";
import type { Config } from "../config.ts";
import { GroupCommit } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import { flushReports } from "./flush.ts";
import type { Outcome, Refusal } from "./fold.ts";
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

/** `onChange` is told, after the commit, in which tenant something has changed, and the number of its last change. */
export function createProgressReports(
  db: Kysely<Database>,
  { progress, limits }: Pick<Config, "progress" | "limits">,
  onChange: (tenantId: string, sequence: bigint) => void,
): ProgressReports {
  const commits = new GroupCommit<Report, Outcome>({
    async flush(submissions) {
      const changed = await flushReports(db, submissions, progress.graceMs);
      for (const [tenantId, sequence] of changed) onChange(tenantId, sequence);
    },
    maxRowsPerFlush,
    maxFlushes,
    maxQueuedRows: limits.maxQueuedRows,
    weigh: ({ request }) => 1 + request.errors.length + request.warnings.length,
  });
  return {
    async submit(tenantId, report) {
      const [outcome] = await commits.submit(tenantId, [report]);
      return outcome as Outcome;
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
