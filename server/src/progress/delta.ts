import type { ReportProgressRequest } from "../gen/pulsewire/progress/v1/progress_pb.js";
import type { Counted } from "./derive.ts";
import type { FileState } from "./fold.ts";

/** A change of a file as it stands in the feed of its tenant. */
export interface DeltaRow extends Counted {
  readonly sequence: bigint;
  readonly fileId: string;
  readonly clientKrn: string;
  readonly filename: string;
  readonly version: bigint;
  readonly errorCount: bigint;
  readonly warningCount: bigint;
}

/** The change that led to a state, with the number that it has in the feed. */
export function deltaOf(
  after: FileState,
  { clientKrn, filename }: Pick<ReportProgressRequest, "clientKrn" | "filename">,
  sequence: bigint,
): DeltaRow {
  return {
    sequence,
    fileId: after.id,
    clientKrn,
    filename,
    version: after.version,
    done: after.done,
    warn: after.warn,
    failed: after.failed,
    total: after.total,
    recent: after.recent,
    errorCount: after.errorCount,
    warningCount: after.warningCount,
    createdAt: after.createdAt,
    updatedAt: after.updatedAt,
    completedAt: after.completedAt,
  };
}
