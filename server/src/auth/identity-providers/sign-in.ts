import type { Config } from "../../config/config.ts";
import type { Role } from "../../db/schema/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { newResourceId } from "../ids.ts";
import { isPlatformAdmin } from "../platform.ts";
import { highestRole, isAbove } from "../roles.ts";
import { requireRoom } from "../tenants/room.ts";
import { laterThan } from "../tenants/store.ts";
import { findUserByEmail, getUser, insertUser, type UserRow } from "../users/store.ts";
import type { Identity } from "./claims.ts";
import { findIdentity, type IdentityProviderRow, insertIdentity, setRoleMapped } from "./store.ts";
import { invalidToken } from "./verify.ts";

/** Who has come. */
export interface SignedIn {
  readonly user: UserRow;
  /** The role or state is another than before: what is remembered of the user elsewhere is no longer true. */
  readonly changed: boolean;
}

/** How exact the time of the last sign-in is. */
const lastLoginGrainMs = 60_000;

/**
 * Finds the user of an identity that a provider of this tenant vouches for, or ties or makes one as the provider
 * allows. Throws INVALID_TOKEN, and TENANT_LIMIT when there is no room for a new user. Rejects with a unique violation
 * when two first calls meet: run it again.
 */
export async function signIn(
  trx: TenantTransaction,
  config: Config,
  provider: IdentityProviderRow,
  tenantSlug: string,
  identity: Identity,
): Promise<SignedIn> {
  const name = {
    tenant_id: provider.tenant_id,
    issuer: provider.issuer,
    subject_claim: identity.subjectClaim,
    subject: identity.subject,
  };
  const tie = await findIdentity(trx, name);
  requireDomain(provider, identity, tie !== undefined);
  const found = tie
    ? await getUser(trx, provider.tenant_id, tie.user_id)
    : await findUserByEmail(trx, provider.tenant_id, identity.email ?? "");
  if (found) requireVouched(config, provider, tenantSlug, found);
  const made = found ?? (await makeUser(trx, config, provider, identity));
  const mapped = cap(identity.role, provider.highest_role);
  if (!tie) {
    await insertIdentity(trx, { ...name, user_id: made.id, role_mapped: mapped !== undefined });
    if (!found) return { user: made, changed: false };
  } else if (tie.role_mapped !== (mapped !== undefined) && made.role !== "OWNER") {
    await setRoleMapped(trx, name, mapped !== undefined);
  }
  // A role that the mapping gave is the mapping's to take away; one that was given here is not.
  const withdrawn = tie?.role_mapped && mapped === undefined && isAbove(made.role, provider.default_role);
  const role =
    made.role === "OWNER" ? made.role : (mapped ?? (withdrawn ? provider.default_role : made.role));
  return await update(trx, made, role, !tie);
}

/** Domains count at every token where there are any, and an address is needed to be tied to a user. */
function requireDomain(provider: IdentityProviderRow, { email }: Identity, tied: boolean): void {
  const domains = provider.allowed_email_domains;
  if (email === undefined) {
    if (tied && domains.length === 0) return;
    throw invalidToken("it has no e-mail address that its issuer has verified");
  }
  if (domains.length > 0 && !domains.includes(email.slice(email.lastIndexOf("@") + 1))) {
    throw invalidToken("its e-mail address is of a domain that the tenant does not accept");
  }
}

/**
 * A provider speaks for nobody above its maker's reach: a tenant's provider for no owner if an admin made it, and none
 * for a platform admin, who is the operator's.
 */
function requireVouched(
  config: Config,
  provider: IdentityProviderRow,
  tenantSlug: string,
  user: UserRow,
): void {
  if (user.state === "DISABLED") throw invalidToken("its user may not sign in any more; ask an admin");
  if (isAbove(user.role, provider.highest_role) || isPlatformAdmin(config, user.email, tenantSlug)) {
    throw invalidToken("its provider may not vouch for this user; sign in with AuthService.Login");
  }
}

async function makeUser(
  trx: TenantTransaction,
  config: Config,
  provider: IdentityProviderRow,
  identity: Identity,
): Promise<UserRow> {
  const tenantId = provider.tenant_id;
  if (!provider.create_users || identity.email === undefined) {
    throw invalidToken("its e-mail address belongs to no user of the tenant; ask an admin for an invitation");
  }
  const tenant = await requireRoom(trx, tenantId, "users", config.tenants.limits);
  if (isPlatformAdmin(config, identity.email, tenant.slug)) {
    throw invalidToken("its provider may not vouch for this user; sign in with AuthService.Login");
  }
  return await insertUser(trx, {
    tenant_id: tenantId,
    id: newResourceId(),
    email: identity.email,
    display_name: identity.displayName,
    role: cap(identity.role, provider.highest_role) ?? provider.default_role,
    state: "ACTIVE",
    email_vouched: true,
    external_id: identity.subject,
    identity_provider_id: provider.id,
    last_login_at: new Date(),
  });
}

function cap(role: Role | undefined, highest: Role): Role | undefined {
  return role && isAbove(role, highest) ? highest : highestRole([role]);
}

async function update(
  trx: TenantTransaction,
  user: UserRow,
  role: Role,
  tiedNow: boolean,
): Promise<SignedIn> {
  const changed = role !== user.role || user.state === "INVITED";
  const stale = Date.now() - (user.last_login_at?.getTime() ?? 0) > lastLoginGrainMs;
  if (!changed && !stale && !tiedNow) return { user, changed };
  const updated = await trx
    .updateTable("users")
    .set(({ ref }) => ({
      last_login_at: new Date(),
      ...(tiedNow && { email_vouched: true }),
      ...(changed && { role, state: "ACTIVE", updated_at: laterThan(ref("updated_at")) }),
    }))
    .where("tenant_id", "=", user.tenant_id)
    .where("id", "=", user.id)
    .where("state", "<>", "DISABLED")
    // Whoever was made an owner meanwhile stays one.
    .where("role", "=", user.role)
    .returningAll()
    .executeTakeFirst();
  if (!updated) throw invalidToken("its user was changed at this moment; call again");
  return { user: updated, changed };
}
