import { Code } from "@connectrpc/connect";
import type { DropReason } from "./counts.ts";
import type { PulsewireError } from "./errors.ts";
import { type ItemOutcome, OutcomeStatus } from "./gen/pulsewire/common/v1/outcome_pb.js";

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

/** Reads the server's word on an item. A status that this version does not know is sent again: ids make it harmless. */
export function fromItemOutcome(outcome: ItemOutcome): SendOutcome {
  const { status, field, code, message, retryDelay } = outcome;
  switch (status) {
    case OutcomeStatus.ACCEPTED:
      return accepted;
    case OutcomeStatus.DUPLICATE:
      return duplicate;
    case OutcomeStatus.CONFLICT:
      return { status: "conflict", code, message };
    case OutcomeStatus.REJECTED:
      return { status: "rejected", field, code, message };
    default:
      return retryDelay
        ? { status: "retry", delayMs: Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6 }
        : { status: "retry" };
  }
}

/** The outcome of an item whose call failed for good. */
export function droppedBy(error: PulsewireError): FinalOutcome {
  return { status: "dropped", code: error.reason || codeName(error.code), message: error.message };
}

/** `Unauthenticated` → `UNAUTHENTICATED`, `InvalidArgument` → `INVALID_ARGUMENT`. */
function codeName(code: Code): string {
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
