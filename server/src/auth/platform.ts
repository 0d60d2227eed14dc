import type { Config } from "../config/config.ts";
import { Scope } from "../gen/pulsewire/options/v1/access_pb.js";
import type { Caller } from "../rpc/caller.ts";
import { notFound } from "../rpc/errors.ts";

/** Whether the operator has named this user of this tenant in PULSEWIRE_PLATFORM_ADMINS. */
export function isPlatformAdmin(config: Config, email: string, tenantSlug: string): boolean {
  return config.tenants.platformAdmins.has(`${email.toLowerCase()}/${tenantSlug}`);
}

/**
 * The scopes of a person with those of a platform admin, where the operator has named them and the password is their
 * own. Only for sessions of this server: an identity provider is the tenant's, and so is what it vouches for.
 */
export function withPlatformScope(
  config: Config,
  scopes: ReadonlySet<Scope>,
  person: { email: string; tenantSlug: string; mustChangePassword: boolean },
): ReadonlySet<Scope> {
  if (person.mustChangePassword || !isPlatformAdmin(config, person.email, person.tenantSlug)) return scopes;
  return new Set([...scopes, Scope.PLATFORM_ADMIN]);
}

/** Whether the caller may act across tenants. A key never may. */
export function actsForPlatform(caller: Caller): boolean {
  return caller.kind === "user" && caller.scopes.has(Scope.PLATFORM_ADMIN);
}

/**
 * The tenant that a call is about: the caller's own, or for platform admins the one that `given` names. Whether there
 * is such a tenant is for the transaction to say, with `requireTenant`. Throws NOT_FOUND for everybody else.
 */
export function reachedTenant(caller: Caller, given: string): string {
  const tenantId = given.toLowerCase();
  if (!tenantId || tenantId === caller.tenantId) return caller.tenantId;
  if (!actsForPlatform(caller)) throw notFound("tenant", given);
  return tenantId;
}

/**
 * Whether the operator has named a platform admin in the tenant with this slug. Just anybody must not make that
 * tenant: its first owner would be the platform admin.
 */
export function isReservedSlug(config: Config, slug: string): boolean {
  return [...config.tenants.platformAdmins].some((entry) => entry.endsWith(`/${slug}`));
}
