import type { Role as StoredRole } from "../db/schema/auth.ts";
import { Role } from "../gen/pulsewire/auth/v1/user_pb.js";
import { Scope } from "../gen/pulsewire/options/v1/access_pb.js";

const reads = [
  Scope.EVENTS_READ,
  Scope.METRICS_READ,
  Scope.FUNCTIONS_READ,
  Scope.PROGRESS_READ,
  Scope.WEBHOOKS_READ,
  Scope.TENANT_READ,
];
const dataWrites = [
  Scope.EVENTS_WRITE,
  Scope.METRICS_WRITE,
  Scope.PROGRESS_WRITE,
  Scope.FUNCTIONS_WRITE,
  Scope.FUNCTIONS_INVOKE,
];
/** What somebody whose password is still the temporary one may not use. */
const administration = [
  Scope.EVENTS_ADMIN,
  Scope.METRICS_ADMIN,
  Scope.WEBHOOKS_WRITE,
  Scope.TENANT_ADMIN,
  Scope.AUDIT_READ,
];

const member = new Set([...reads, ...dataWrites]);
const all = new Set([...member, ...administration]);

const scopes: Record<StoredRole, ReadonlySet<Scope>> = {
  OWNER: all,
  ADMIN: all,
  MEMBER: member,
  VIEWER: new Set(reads),
};

/** What a person may do, by role; less while the password is temporary. */
export function scopesOfRole(role: StoredRole, mustChangePassword: boolean): ReadonlySet<Scope> {
  return mustChangePassword ? scopes[role].difference(new Set(administration)) : scopes[role];
}

/** What a gateway needs: the scopes of an API key for which none were asked. */
export const gatewayScopes: readonly Scope[] = [
  Scope.EVENTS_READ,
  Scope.EVENTS_WRITE,
  Scope.METRICS_READ,
  Scope.METRICS_WRITE,
];

/** From the least to the most. */
export const rolesByRank: readonly StoredRole[] = ["VIEWER", "MEMBER", "ADMIN", "OWNER"];

/** Whether the first role is more than the second. */
export function isAbove(role: StoredRole, other: StoredRole): boolean {
  return rolesByRank.indexOf(role) > rolesByRank.indexOf(other);
}

/** The most of some roles; undefined where there are none. */
export function highestRole(roles: readonly (StoredRole | undefined)[]): StoredRole | undefined {
  return rolesByRank.findLast((role) => roles.includes(role));
}

/** The value of the contract as the word of the database; undefined where none is given. */
export function storedRole(role: Role | undefined): StoredRole | undefined {
  return rolesByRank.find((stored) => roleOf[stored] === role);
}

/** The word of the database as the value of the contract. */
export const roleOf: Record<StoredRole, Role> = {
  OWNER: Role.OWNER,
  ADMIN: Role.ADMIN,
  MEMBER: Role.MEMBER,
  VIEWER: Role.VIEWER,
};
