import { type Selectable, type SelectQueryBuilder, sql } from "kysely";
import type { ProgressFilesTable, ProgressLineIssuesTable } from "../db/schema/progress.ts";
import type { Database } from "../db/schema.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { firstUuidv7 } from "../db/uuid.ts";
import { LineIssueKind } from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import { fileKey } from "./report.ts";

export type FileRow = Selectable<ProgressFilesTable>;
export type LineIssueRow = Selectable<ProgressLineIssuesTable>;

/** How much of a filename is indexed. */
const indexedStart = 100;

/** One file of a client. */
export function getFile(
  trx: TenantTransaction,
  tenantId: string,
  clientKrn: string,
  filename: string,
): Promise<FileRow | undefined> {
  return trx
    .selectFrom("progress_files")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("key", "=", fileKey(clientKrn, filename))
    .executeTakeFirst();
}

/** Which files to list. Undefined and empty values do not narrow. */
export interface FileQuery {
  readonly clientKrn: string;
  readonly filename: string;
  readonly filenamePrefix: string;
  readonly email: string;
  readonly isCompleted: boolean | undefined;
  /** Of open files, whether they stand still: no report since `stalledBefore`. */
  readonly stalled: boolean | undefined;
  readonly hasErrors: boolean | undefined;
  readonly createdFrom: Date | undefined;
  readonly createdUntil: Date | undefined;
  readonly oldestFirst: boolean;
}

/** A page of files in the order in which they were made, after the file `afterId` where one is given. */
export function listFiles(
  trx: TenantTransaction,
  tenantId: string,
  query: FileQuery,
  stalledBefore: Date,
  limit: number,
  afterId: string | undefined,
): Promise<FileRow[]> {
  let select = trx
    .selectFrom("progress_files")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("id", query.oldestFirst ? "asc" : "desc")
    .limit(limit);
  if (afterId) select = select.where("id", query.oldestFirst ? ">" : "<", afterId);
  if (query.createdFrom) select = select.where("id", ">=", firstUuidv7(query.createdFrom));
  if (query.createdUntil) select = select.where("id", "<", firstUuidv7(query.createdUntil));
  if (query.clientKrn) select = select.where("client_krn", "=", query.clientKrn);
  if (query.email) select = select.where("email", "=", query.email.toLowerCase());
  if (query.filename) select = whereFilename(select, query.filename);
  if (query.filenamePrefix) select = wherePrefix(select, query.filenamePrefix);
  if (query.isCompleted !== undefined) {
    select = select.where("completed_at", query.isCompleted ? "is not" : "is", null);
  }
  if (query.hasErrors !== undefined) {
    select = query.hasErrors
      ? select.where(sql<boolean>`has_errors`)
      : select.where(sql<boolean>`not has_errors`);
  }
  if (query.stalled === true) {
    select = select.where("completed_at", "is", null).where("updated_at", "<=", stalledBefore);
  } else if (query.stalled === false) {
    select = select.where((where) =>
      where.or([where("completed_at", "is not", null), where("updated_at", ">", stalledBefore)]),
    );
  }
  return select.execute();
}

type Files = SelectQueryBuilder<Database, "progress_files", FileRow>;

/** As PostgreSQL counts them: whole characters. */
const startOf = (text: string) => [...text].slice(0, indexedStart).join("");

function whereFilename(select: Files, filename: string): Files {
  return select.where("filename_start", "=", startOf(filename)).where("filename", "=", filename);
}

/** As a range, for the pattern of LIKE may not reach an index past row security. */
function wherePrefix(select: Files, prefix: string): Files {
  const start = startOf(prefix);
  const from = select
    .where("filename_start", ">=", start)
    .where("filename_start", "<=", `${start}\u{10FFFF}`);
  return start === prefix ? from : from.where(sql<boolean>`starts_with(filename, ${prefix})`);
}

/** Which line issues of a file to list. */
export interface LineIssueQuery {
  readonly kind: LineIssueKind;
  readonly lineFrom: bigint;
  /** 0: no bound. */
  readonly lineUntil: bigint;
}

/** Where a page of line issues ended. */
export interface LineIssuePosition {
  readonly line: bigint;
  readonly id: string;
}

/** Line issues of a file by line, those of one line in the order of their reports, after a position where one is given. */
export async function listLineIssues(
  trx: TenantTransaction,
  tenantId: string,
  fileId: string,
  query: LineIssueQuery,
  limit: number,
  after?: LineIssuePosition,
): Promise<LineIssueRow[]> {
  const ofKind = (kind: LineIssueKind) => {
    let select = trx
      .selectFrom("progress_line_issues")
      .selectAll()
      .where("tenant_id", "=", tenantId)
      .where("file_id", "=", fileId)
      .where("kind", "=", kind)
      .orderBy("line")
      .orderBy("id")
      .limit(limit);
    if (query.lineFrom > 0n) select = select.where("line", ">=", query.lineFrom);
    if (query.lineUntil > 0n) select = select.where("line", "<", query.lineUntil);
    if (after) select = select.where(sql<boolean>`(line, id) > (${after.line}::bigint, ${after.id}::uuid)`);
    return select;
  };
  if (query.kind !== LineIssueKind.UNSPECIFIED) return await ofKind(query.kind).execute();
  // Each kind from its own part of the index, which is in the order of the lines.
  const lists = [await ofKind(LineIssueKind.ERROR).execute(), await ofKind(LineIssueKind.WARNING).execute()];
  return lists
    .flat()
    .sort((a, b) => (a.line === b.line ? (a.id < b.id ? -1 : 1) : a.line < b.line ? -1 : 1))
    .slice(0, limit);
}
