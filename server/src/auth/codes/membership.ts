import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";
import { withLookup, withTenant } from "../../db/tenant.ts";
import { findTenantBySlug } from "../tenants/store.ts";
import { findUserByEmail, type UserRow } from "../users/store.ts";
import { findMemberships } from "./store.ts";

/** The users with this address, in lower case, who may sign in. */
export async function membershipsOf(db: Kysely<Database>, email: string): Promise<UserRow[]> {
  const users = await withLookup(db, { email }, (trx) => findMemberships(trx, email));
  return users.filter(({ state }) => state !== "DISABLED");
}

/** The user of this address in one tenant, who may sign in. */
export async function memberOf(
  db: Kysely<Database>,
  tenantSlug: string,
  email: string,
): Promise<UserRow | undefined> {
  const tenant = await withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug));
  const user = tenant && (await withTenant(db, tenant.id, (trx) => findUserByEmail(trx, tenant.id, email)));
  return user && user.state !== "DISABLED" ? user : undefined;
}

/**
 * Which of an address's memberships a code signs in to when no tenant is named: of those where the address is verified
 * the one used last. Without one, a new tenant is theirs where registration is open; else the oldest membership or
 * invitation. So nobody is drawn into a tenant that a stranger registered with their address.
 */
export function chooseMembership(
  memberships: readonly UserRow[],
  registrationOpen: boolean,
): UserRow | "new-tenant" | undefined {
  const verified = memberships.find(({ email_verified }) => email_verified);
  if (verified) return verified;
  if (registrationOpen) return "new-tenant";
  // An unverified address with an id from elsewhere is that of a development token, which anybody may have named.
  return memberships
    .filter(({ external_id }) => external_id === null)
    .reduce<UserRow | undefined>(
      (oldest, user) => (oldest && oldest.created_at <= user.created_at ? oldest : user),
      undefined,
    );
}
