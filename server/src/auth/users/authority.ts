import type { Config } from "../../config/config.ts";
import type { Role } from "../../db/schema/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Caller } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { actsForPlatform, isPlatformAdmin } from "../platform.ts";
import { scopesOfRole } from "../roles.ts";
import type { TenantRow } from "../tenants/store.ts";
import { getUser } from "./store.ts";

/** Whom it is about: somebody who has these, or shall have them. */
export interface Person {
  readonly email: string;
  readonly role: Role;
}

/**
 * Refuses whoever would give a role, or get hold of a person with a role, beyond their own: OWNER is for owners, any
 * role for those who hold all its scopes, and a platform admin for platform admins. Those may do all. The role of the
 * caller is read anew in the transaction, whose tenant this is. Throws INSUFFICIENT_ROLE.
 */
export async function requireAuthority(
  trx: TenantTransaction,
  config: Config,
  caller: Caller,
  tenant: Pick<TenantRow, "id" | "slug">,
  person: Person,
): Promise<void> {
  if (actsForPlatform(caller)) return;
  if (isPlatformAdmin(config, person.email, tenant.slug)) throw insufficientRole("PLATFORM_ADMIN");
  const self =
    caller.kind === "user" && caller.userId && caller.tenantId === tenant.id
      ? await getUser(trx, tenant.id, caller.userId)
      : undefined;
  const isOwner = self?.role === "OWNER" && self.state === "ACTIVE" && (caller.role ?? self.role) === "OWNER";
  if (isOwner) return;
  if (person.role === "OWNER") throw insufficientRole("OWNER");
  const held = self && !caller.identityProviderId ? scopesOfRole(self.role, false) : caller.scopes;
  // A person has all stores: more than a key that is bound to some.
  if (!scopesOfRole(person.role, false).isSubsetOf(held) || caller.storeIds.length > 0) {
    throw insufficientRole(person.role);
  }
}

function insufficientRole(role: Role | "PLATFORM_ADMIN") {
  const whom = role === "OWNER" ? "owners and platform admins" : "those who hold all that it may do";
  return failure(
    ErrorReason.INSUFFICIENT_ROLE,
    `the role ${role} may be given, changed and taken away by ${role === "PLATFORM_ADMIN" ? "platform admins" : whom} only`,
    { metadata: { role } },
  );
}
