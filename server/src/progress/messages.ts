import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Selectable } from "kysely";
import type { ProgressLineIssuesTable } from "../db/schema/progress.ts";
import { type StoredLineIssue, StoredLineIssueSchema } from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import {
  type Progress,
  ProgressCountsSchema,
  type ProgressDelta,
  ProgressDeltaSchema,
  ProgressSchema,
} from "../gen/pulsewire/progress/v1/progress_pb.js";
import type { DeltaRow } from "./delta.ts";
import { type Counted, derive } from "./derive.ts";
import type { FileState } from "./fold.ts";

/** What derived values depend on. */
export interface ProgressTimes {
  /** Without a report for so long, a file stands still. */
  readonly stallMs: number;
  /** How long after its completion a file still takes reports that were overtaken. */
  readonly graceMs: number;
}

const stamps = new WeakMap<Date, Timestamp>();

/** A time as a message; reports that were counted together share their times, and so these. */
function stampOf(time: Date): Timestamp {
  let stamp = stamps.get(time);
  if (!stamp) {
    stamp = timestampFromDate(time);
    stamps.set(time, stamp);
  }
  return stamp;
}

/** A file as callers see it at `now`. */
export function toProgress(
  clientKrn: string,
  filename: string,
  file: FileState,
  now: Date,
  { stallMs, graceMs }: ProgressTimes,
): Progress {
  const { total, completedAt } = file;
  const { rate, percentage, eta, stallsAt } = derive(file, now, stallMs);
  const message = create(ProgressSchema);
  message.id = file.id;
  message.clientKrn = clientKrn;
  message.filename = filename;
  message.email = file.creator.email;
  message.counts = countsOf(file);
  if (total !== null) message.total = total;
  message.isCompleted = completedAt !== null;
  message.createdAt = stampOf(file.createdAt);
  message.updatedAt = stampOf(file.updatedAt);
  message.version = file.version;
  message.errorCount = file.errorCount;
  message.warningCount = file.warningCount;
  message.rate = rate;
  if (percentage !== undefined) message.percentage = percentage;
  if (eta) message.eta = timestampFromDate(eta);
  if (stallsAt) {
    message.stalled = stallsAt <= now;
    message.stallsAt = timestampFromDate(stallsAt);
  }
  if (completedAt) {
    message.completedAt = timestampFromDate(completedAt);
    message.finalAt = timestampFromDate(new Date(completedAt.getTime() + graceMs));
  }
  return message;
}

/** A change as watchers see it: with what was derived when it was made. */
export function toDelta(row: DeltaRow, stallMs: number): ProgressDelta {
  const { rate, percentage, eta, stallsAt } = derive(row, row.updatedAt, stallMs);
  return create(ProgressDeltaSchema, {
    clientKrn: row.clientKrn,
    filename: row.filename,
    version: row.version,
    counts: countsOf(row),
    ...(row.total !== null && { total: row.total }),
    isCompleted: row.completedAt !== null,
    updatedAt: timestampFromDate(row.updatedAt),
    errorCount: row.errorCount,
    warningCount: row.warningCount,
    rate,
    ...(percentage !== undefined && { percentage }),
    ...(eta && { eta: timestampFromDate(eta) }),
    ...(stallsAt && { stallsAt: timestampFromDate(stallsAt) }),
  });
}

function countsOf({ done, warn, failed }: Counted) {
  const counts = create(ProgressCountsSchema);
  counts.done = done;
  counts.warn = warn;
  counts.failed = failed;
  return counts;
}

/** A stored line issue. */
export function toLineIssue(row: Selectable<ProgressLineIssuesTable>): StoredLineIssue {
  return create(StoredLineIssueSchema, {
    id: row.id,
    kind: row.kind,
    line: row.line,
    message: row.message,
    rawLine: row.raw_line,
    reportedAt: timestampFromDate(row.reported_at),
  });
}
