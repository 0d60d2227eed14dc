import { hash } from "node:crypto";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import { uuidForm } from "./uuid.ts";

/**
 * Page tokens and cursors: opaque and strict (AIP-158). A token holds a position and a digest of the query that it
 * belongs to, so that it cannot be used with another query.
 */
export function encodeCursor(query: string, position: readonly string[]): string {
  return Buffer.from(JSON.stringify([digest(query), ...position])).toString("base64url");
}

/**
 * A page of at most `limit` rows, of which one more was read to see whether there are others, and the token of the next
 * page; empty on the last.
 */
export function pageOf<Row>(
  rows: readonly Row[],
  limit: number,
  query: string,
  positionOf: (row: Row) => readonly string[],
): { page: Row[]; nextPageToken: string } {
  const page = rows.slice(0, limit);
  const last = rows.length > limit ? page.at(-1) : undefined;
  return { page, nextPageToken: last === undefined ? "" : encodeCursor(query, positionOf(last)) };
}

/** What a part of a position must look like, so that a forged token is refused here and not by the database. */
export type CursorPart = "uuid" | "integer" | "text";

const forms: Record<CursorPart, RegExp> = {
  uuid: uuidForm,
  integer: /^-?\d{1,18}$/,
  text: /^[^\0]*$/,
};

/** Reads a token made for the same query, whose position has these parts. Throws INVALID_CURSOR. */
export function decodeCursor(
  token: string,
  query: string,
  parts: readonly CursorPart[],
  field = "page_token",
): string[] {
  try {
    const [owner, ...position] = JSON.parse(Buffer.from(token, "base64url").toString()) as unknown[];
    const fits = (part: CursorPart, index: number) => {
      const value = position[index];
      return typeof value === "string" && forms[part].test(value);
    };
    if (owner === digest(query) && position.length === parts.length && parts.every(fits))
      return position as string[];
  } catch {
    // Falls through to the one answer for everything that is not ours.
  }
  throw failure(
    ErrorReason.INVALID_CURSOR,
    `${field} is not a token of this query; leave it empty to start anew`,
    {
      metadata: { field },
      violations: [{ field, description: "is not a token of this query", rule: "cursor" }],
    },
  );
}

function digest(query: string): string {
  return hash("sha256", query, "base64url").slice(0, 11);
}
