import type { JsonObject } from "@bufbuild/protobuf";
import type { Role as StoredRole, UserState as StoredState } from "../../db/schema/auth.ts";
import { Role, type UpdateUserRequest, UserState } from "../../gen/pulsewire/auth/v1/user_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure, invalidField } from "../../rpc/errors.ts";
import { change } from "../audit/details.ts";
import { pathsOf } from "../field-mask.ts";
import { etagOf } from "../ids.ts";
import type { UserRow } from "./store.ts";

/** The values of the contract as the words of the database. */
export const roleWord = {
  [Role.OWNER]: "OWNER",
  [Role.ADMIN]: "ADMIN",
  [Role.MEMBER]: "MEMBER",
  [Role.VIEWER]: "VIEWER",
} as const satisfies Partial<Record<Role, StoredRole>>;
export const stateWord = {
  [UserState.INVITED]: "INVITED",
  [UserState.ACTIVE]: "ACTIVE",
  [UserState.DISABLED]: "DISABLED",
} as const satisfies Partial<Record<UserState, StoredState>>;

/** What the mask names, and nothing else. Throws INVALID_FIELD. */
export function userChanges({ updateMask, displayName, role, state }: UpdateUserRequest): {
  display_name?: string;
  role?: StoredRole;
  state?: StoredState;
} {
  const paths = pathsOf(updateMask, ["display_name", "role", "state"]);
  if (paths.has("role") && role === Role.UNSPECIFIED) {
    throw invalidField("role", "must be given when the mask names it");
  }
  if (paths.has("state") && state === UserState.UNSPECIFIED) {
    throw invalidField("state", "must be ACTIVE or DISABLED when the mask names it");
  }
  return {
    ...(paths.has("display_name") && { display_name: displayName }),
    ...(paths.has("role") && role !== Role.UNSPECIFIED && { role: roleWord[role] }),
    ...(paths.has("state") && state !== UserState.UNSPECIFIED && { state: stateWord[state] }),
  };
}

/** Refuses a change of a user who has changed since the etag was read. */
export function requireSame(user: UserRow, etag: string): void {
  if (!etag || etag === etagOf(user.updated_at)) return;
  throw failure(
    ErrorReason.ETAG_MISMATCH,
    "etag: the user has changed since; read them again and repeat the change",
    { metadata: { resource: "user" } },
  );
}

/** Old and new values of what has changed, for the audit log. */
export function auditedChanges(before: UserRow, after: UserRow): JsonObject {
  const fields = ["display_name", "role", "state"] as const;
  const changed = fields.filter((field) => before[field] !== after[field]);
  return Object.fromEntries(changed.map((field) => [field, change(before[field], after[field])]));
}
