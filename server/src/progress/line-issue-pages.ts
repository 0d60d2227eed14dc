import type { CursorPart } from "../db/cursor.ts";
import type { ListLineIssuesRequest } from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import type { LineIssuePosition, LineIssueRow } from "./store.ts";

/** The query that a page token or cursor of line issues belongs to. */
export function lineIssueIdentity(
  what: string,
  tenantId: string,
  request: Pick<ListLineIssuesRequest, "clientKrn" | "filename" | "kind"> &
    Partial<Pick<ListLineIssuesRequest, "lineFrom" | "lineUntil">>,
): string {
  const { clientKrn, filename, kind, lineFrom = 0n, lineUntil = 0n } = request;
  return JSON.stringify([what, tenantId, clientKrn, filename, kind, String(lineFrom), String(lineUntil)]);
}

/** What a position consists of. */
export const lineIssueParts: readonly CursorPart[] = ["integer", "uuid"];

export function lineIssuePosition({ line, id }: LineIssueRow): string[] {
  return [String(line), id];
}

export function lineIssueStart([line = "0", id = ""]: readonly string[]): LineIssuePosition {
  return { line: BigInt(line), id };
}
