import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { withTenant } from "../db/tenant.ts";
import { LineIssueKind } from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import {
  type ListProgressRequest,
  type ReportProgressRequest,
  type ReportProgressResponse,
  ReportProgressResponseSchema,
  ReportResult,
} from "../gen/pulsewire/progress/v1/progress_pb.js";
import type { ProgressService } from "../gen/pulsewire/progress/v1/progress_service_pb.js";
import { type Caller, callerOf } from "../rpc/caller.ts";
import { notFound } from "../rpc/errors.ts";
import { requireOwnClient } from "./clients.ts";
import { createCountedReports } from "./counted-report.ts";
import { creatorOf } from "./creator.ts";
import { exportLineIssues } from "./export.ts";
import type { Outcome } from "./fold.ts";
import { lineIssueIdentity, lineIssueParts, lineIssuePosition, lineIssueStart } from "./line-issue-pages.ts";
import { stateOf } from "./lock-files.ts";
import { type ProgressTimes, toLineIssue, toProgress } from "./messages.ts";
import { ReadReport } from "./read-report.ts";
import { reportOf } from "./report.ts";
import { refusedReport } from "./reports.ts";
import * as store from "./store.ts";

const defaultPageSize = 100;
const defaultLineIssues = 100;

const results = {
  created: ReportResult.CREATED,
  updated: ReportResult.UPDATED,
  duplicate: ReportResult.DUPLICATE,
} as const;

/** ProgressService. */
export function progressHandlers(context: Context): ServiceImpl<typeof ProgressService> {
  const { config, db, tenantSettings, progressReports, progressFeeds } = context;
  const { progress: times } = config;
  const countedReport = createCountedReports(times);
  const progressOf = (row: store.FileRow, now: Date) =>
    toProgress(row.client_krn, row.filename, stateOf(row), now, times);
  const count = (caller: Caller, request: ReportProgressRequest) => {
    const report = reportOf(request, creatorOf(caller, request.email), request.updateId);
    return progressReports
      .submit(caller.tenantId, report)
      .then((outcome) =>
        request instanceof ReadReport && outcome.result !== "refused"
          ? countedReport(results[outcome.result], outcome.file, request)
          : answerOf(request, outcome, times),
      );
  };

  return {
    // Without a promise of its own: many call it at once, and each would cost.
    reportProgress(request, context) {
      const caller = callerOf(context);
      const checking = requireOwnClient(tenantSettings, caller.tenantId, request.clientKrn);
      return checking ? checking.then(() => count(caller, request)) : count(caller, request);
    },

    async getProgress({ clientKrn, filename, maxLineIssues = defaultLineIssues }, { values }) {
      const { tenantId } = callerOf({ values });
      const now = new Date();
      return await withTenant(db, tenantId, async (trx) => {
        const row = await store.getFile(trx, tenantId, clientKrn, filename);
        if (!row) throw notFound("file", `${clientKrn} ${filename}`);
        const issues = async (kind: LineIssueKind, count: bigint) =>
          maxLineIssues === 0 || count === 0n
            ? []
            : await store.listLineIssues(trx, tenantId, row.id, { ...everyLine, kind }, maxLineIssues);
        const errors = await issues(LineIssueKind.ERROR, row.error_count);
        const warnings = await issues(LineIssueKind.WARNING, row.warning_count);
        return {
          progress: progressOf(row, now),
          errors: errors.map(toLineIssue),
          warnings: warnings.map(toLineIssue),
          moreLineIssues: row.error_count > errors.length || row.warning_count > warnings.length,
        };
      });
    },

    async listProgress(request, { values }) {
      const { tenantId } = callerOf({ values });
      const query = queryOf(request);
      const identity = `progress ${tenantId} ${JSON.stringify(query)}`;
      const [after] = request.pageToken ? decodeCursor(request.pageToken, identity, ["uuid"]) : [];
      const limit = request.pageSize || defaultPageSize;
      const now = new Date();
      const stalledBefore = new Date(now.getTime() - times.stallMs);
      const rows = await withTenant(db, tenantId, (trx) =>
        store.listFiles(trx, tenantId, query, stalledBefore, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.id]);
      return { progress: page.map((row) => progressOf(row, now)), nextPageToken };
    },

    async listLineIssues(request, { values }) {
      const { tenantId } = callerOf({ values });
      const { clientKrn, filename, pageToken } = request;
      const identity = lineIssueIdentity("line-issues", tenantId, request);
      const after = pageToken ? lineIssueStart(decodeCursor(pageToken, identity, lineIssueParts)) : undefined;
      const limit = request.pageSize || defaultPageSize;
      return await withTenant(db, tenantId, async (trx) => {
        const file = await store.getFile(trx, tenantId, clientKrn, filename);
        if (!file) throw notFound("file", `${clientKrn} ${filename}`);
        const rows = await store.listLineIssues(trx, tenantId, file.id, request, limit + 1, after);
        const { page, nextPageToken } = pageOf(rows, limit, identity, lineIssuePosition);
        return { lineIssues: page.map(toLineIssue), nextPageToken };
      });
    },

    exportLineIssues(request, { values, signal }) {
      return exportLineIssues(db, callerOf({ values }).tenantId, request, signal);
    },

    watchProgress(request, { values }) {
      return progressFeeds.watch(callerOf({ values }).tenantId, request);
    },
  };
}

function answerOf(
  { clientKrn, filename, updateId, errors, warnings }: ReportProgressRequest,
  outcome: Outcome,
  times: ProgressTimes,
): ReportProgressResponse {
  if (outcome.result === "refused") throw refusedReport(outcome.refusal, updateId);
  const { result, file } = outcome;
  const answer = create(ReportProgressResponseSchema);
  answer.result = results[result];
  answer.progress = toProgress(clientKrn, filename, file, file.updatedAt, times);
  answer.errors = errors;
  answer.warnings = warnings;
  return answer;
}

const everyLine = { lineFrom: 0n, lineUntil: 0n };

function queryOf(request: ListProgressRequest): store.FileQuery {
  const { clientKrn, filename, filenamePrefix, email, isCompleted, stalled, hasErrors, oldestFirst } =
    request;
  return {
    clientKrn,
    filename,
    filenamePrefix,
    email,
    isCompleted,
    stalled,
    hasErrors,
    createdFrom: request.createdFrom && timestampDate(request.createdFrom),
    createdUntil: request.createdUntil && timestampDate(request.createdUntil),
    oldestFirst,
  };
}
