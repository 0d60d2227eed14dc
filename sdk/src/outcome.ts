import { codeNames } from "./code.ts";
import type { DropReason } from "./counts.ts";
import type { PulsewireError } from "./errors.ts";
import { readFields } from "./message-reader.ts";

/** What became of one event or sample for good. */
export interface FinalOutcome {
  /** `accepted` and `duplicate` are stored; `conflict` and `rejected` were refused; `dropped` was given up here. */
  status: "accepted" | "duplicate" | "conflict" | "rejected" | "dropped";
  /** Rejected: path of the field that is wrong. */
  field?: string;
  /** Rejected and conflict: a stable code, such as `string.min_len`. Dropped: the reason. */
  code?: string | DropReason;
  /** What is wrong, for a person. */
  message?: string;
}

/** The item was not written; it is sent again. */
export interface RetryOutcome {
  status: "retry";
  /** Milliseconds to wait before, where the server named them. */
  delayMs?: number;
  /** Why, where the item was sent by a call of its own. */
  error?: PulsewireError;
}

/** What one sending made of an item. */
export type SendOutcome = FinalOutcome | RetryOutcome;

/** The outcome of nearly every item; one object for all. */
export const accepted: FinalOutcome = /* @__PURE__ */ Object.freeze({ status: "accepted" });
/** As {@link accepted}. */
export const duplicate: FinalOutcome = /* @__PURE__ */ Object.freeze({ status: "duplicate" });

/** What ItemOutcome.status may be. */
const itemStatus = { accepted: 1, duplicate: 2, conflict: 3, rejected: 4 } as const;

/**
 * Reads the server's word on an item, an ItemOutcome. A status that this version does not know is sent again: ids make it
 * harmless.
 */
export function readItemOutcome(bytes: Uint8Array): SendOutcome {
  let status = 0;
  let delayMs: number | undefined;
  const words = { field: "", code: "", message: "" };
  readFields(bytes, (field, value) => {
    if (field === 1) status = value.number;
    else if (field === 3) words.field = value.text;
    else if (field === 4) words.code = value.text;
    else if (field === 5) words.message = value.text;
    else if (field === 6) delayMs = value.durationMs;
  });
  const { field, code, message } = words;
  switch (status) {
    case itemStatus.accepted:
      return accepted;
    case itemStatus.duplicate:
      return duplicate;
    case itemStatus.conflict:
      return { status: "conflict", code, message };
    case itemStatus.rejected:
      return { status: "rejected", field, code, message };
    default:
      return delayMs === undefined ? { status: "retry" } : { status: "retry", delayMs };
  }
}

/** The outcome of an item whose call failed for good. */
export function droppedBy(error: PulsewireError): FinalOutcome {
  return {
    status: "dropped",
    code: error.reason || (codeNames.get(error.code) ?? ""),
    message: error.message,
  };
}
