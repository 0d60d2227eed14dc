import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Caller } from "../rpc/caller.ts";
import { failure } from "../rpc/errors.ts";

/** A key that is bound to stores may ask for these only. */
export function requireStoreAccess({ storeIds }: Caller, storeId: string): void {
  if (storeIds.length === 0 || storeIds.includes(storeId)) return;
  throw failure(
    ErrorReason.KEY_RESTRICTED,
    "this API key is bound to other stores; name one of its own in store_id",
    { metadata: { restriction: "store" } },
  );
}
