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

/** Reads a token of `length` parts made for the same query. Throws INVALID_CURSOR. */
export function decodeCursor(token: string, query: string, length: number, field = "page_token"): string[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    if (
      Array.isArray(parts) &&
      parts.length === length + 1 &&
      parts.every((part) => typeof part === "string")
    ) {
      const [owner, ...position] = parts as string[];
      if (owner === digest(query)) return position;
    }
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
