import { toJsonString } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import { decodeCursor, encodeCursor } from "../db/cursor.ts";
import type { Database } from "../db/schema.ts";
import { withTenant } from "../db/tenant.ts";
import {
  type ExportLineIssuesRequest,
  LineIssueFormat,
  LineIssueKind,
  StoredLineIssueSchema,
} from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import { notFound } from "../rpc/errors.ts";
import { lineIssueIdentity, lineIssueParts, lineIssueStart } from "./line-issue-pages.ts";
import { toLineIssue } from "./messages.ts";
import { getFile, type LineIssueRow, listLineIssues } from "./store.ts";

/** Rows that are read at once. */
const rowsPerRead = 500;
/** Bytes of a piece, which ends with the record that reaches them. A record has at most some 75,000. */
const pieceBytes = 512 * 1024;

/**
 * The line issues of a file as a file, piece by piece. A file without any gives one piece, the header, or nothing. Each piece
 * is read when the reader has taken the one before, with no transaction open in between.
 */
export async function* exportLineIssues(
  db: Kysely<Database>,
  tenantId: string,
  request: ExportLineIssuesRequest,
  signal: AbortSignal,
) {
  const { clientKrn, filename, kind, cursor } = request;
  const isCsv = request.format !== LineIssueFormat.NDJSON;
  const identity = lineIssueIdentity(`export ${isCsv}`, tenantId, request);
  let after = cursor ? lineIssueStart(decodeCursor(cursor, identity, lineIssueParts, "cursor")) : undefined;
  const fileId = await withTenant(db, tenantId, async (trx) => {
    const file = await getFile(trx, tenantId, clientKrn, filename);
    if (!file) throw notFound("file", `${clientKrn} ${filename}`);
    return file.id;
  });
  let header = isCsv && !after ? csvHeader : "";
  for (let more = true; more; ) {
    signal.throwIfAborted();
    const rows = await withTenant(db, tenantId, (trx) =>
      listLineIssues(trx, tenantId, fileId, { kind, lineFrom: 0n, lineUntil: 0n }, rowsPerRead, after),
    );
    more = rows.length === rowsPerRead;
    for (const piece of piecesOf(rows, isCsv ? csvRecord : ndjsonRecord, header)) {
      after = piece.last ?? after;
      yield {
        data: piece.data,
        lineIssues: piece.count,
        cursor: after ? encodeCursor(identity, [String(after.line), after.id]) : "",
      };
    }
    header = "";
  }
}

interface Piece {
  readonly data: Uint8Array;
  readonly count: number;
  readonly last: LineIssueRow | undefined;
}

function* piecesOf(
  rows: readonly LineIssueRow[],
  record: (row: LineIssueRow) => string,
  header: string,
): Generator<Piece> {
  let text = header;
  let bytes = 0;
  let count = 0;
  for (const [index, row] of rows.entries()) {
    const line = record(row);
    text += line;
    bytes += Buffer.byteLength(line);
    count++;
    if (bytes < pieceBytes && index < rows.length - 1) continue;
    yield { data: Buffer.from(text), count, last: row };
    text = "";
    bytes = 0;
    count = 0;
  }
  if (text) yield { data: Buffer.from(text), count, last: undefined };
}

const csvHeader = "kind,line,message,raw_line,reported_at\r\n";

function csvRecord({ kind, line, message, raw_line, reported_at }: LineIssueRow): string {
  const word = kind === LineIssueKind.ERROR ? "error" : "warning";
  const cells = [word, String(line), csvText(message), csvText(raw_line), reported_at.toISOString()];
  return `${cells.join(",")}\r\n`;
}

/** RFC 4180. */
function csvText(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function ndjsonRecord(row: LineIssueRow): string {
  return `${toJsonString(StoredLineIssueSchema, toLineIssue(row))}\n`;
}
