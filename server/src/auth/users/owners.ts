import type { Role, UserState } from "../../db/schema/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import { countOtherOwners, type UserRow } from "./store.ts";

/**
 * Refuses a change that would leave a tenant without an active owner, or, where none has signed in yet, without any.
 * `after` is what the user will be, undefined: gone. The tenant must be locked, so that two owners do not remove each
 * other.
 */
export async function keepAnOwner(
  trx: TenantTransaction,
  user: UserRow,
  after: { readonly role: Role; readonly state: UserState } | undefined,
): Promise<void> {
  if (user.role !== "OWNER" || user.state === "DISABLED") return;
  if (after?.role === "OWNER" && after.state !== "DISABLED") return;
  const others = await countOtherOwners(trx, user);
  const left = user.state === "ACTIVE" ? others.ACTIVE : others.ACTIVE + others.INVITED;
  if (left > 0n) return;
  throw failure(
    ErrorReason.FAILED_PRECONDITION,
    `user_id: ${user.email} is the last active owner of the tenant; make another one first`,
    { metadata: { resource: "user" } },
  );
}
