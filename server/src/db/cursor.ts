import { hash } from "node:crypto";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";

/**
 * Page tokens and cursors: opaque and strict (AIP-158). A token holds a position and a digest of the query that it
 * belongs to, so that it cannot be used with another query.
 */
export function encodeCursor(query: string, position: readonly string[]): string {
  return Buffer.from(JSON.stringify([digest(query), ...position])).toString("base64url");
}

/** What a part of a position must look like, so that a forged token is refused here and not by the database. */
export type CursorPart = "uuid" | "integer" | "text";

const forms: Record<CursorPart, RegExp> = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
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
