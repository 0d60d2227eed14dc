import type { HandlerContext } from "@connectrpc/connect";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { type Caller, callerOf } from "../rpc/caller.ts";
import { failure } from "../rpc/errors.ts";

/** The caller, unless it is a key that is bound to stores: webhooks tell of all that is the tenant's. */
export function webhookCaller(call: Pick<HandlerContext, "values">): Caller {
  const caller = callerOf(call);
  if (caller.storeIds.length === 0) return caller;
  throw failure(
    ErrorReason.KEY_RESTRICTED,
    "this API key is bound to stores, and webhooks tell of all stores; use a key that is not",
    { metadata: { restriction: "store" } },
  );
}
