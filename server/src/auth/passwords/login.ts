import { randomUUID } from "node:crypto";
import type { Context } from "../../context.ts";
import { withLookup, withTenant } from "../../db/tenant.ts";
import { verifyPassword } from "../passwords.ts";
import { findTenantBySlug, type TenantRow } from "../tenants/store.ts";
import { findUserByEmail, type UserRow } from "../users/store.ts";
import type { Account } from "./lockout.ts";

/** Somebody whose password was right. */
export interface ProvenLogin {
  readonly tenant: TenantRow;
  readonly user: UserRow;
}

/**
 * Finds who has this password; undefined when address, password or tenant is wrong, the user disabled or the temporary
 * password expired, after the same effort whichever it is. Throws RATE_LIMITED while the account is locked.
 */
export function proveLogin(
  { db, lockout }: Pick<Context, "db" | "lockout">,
  account: Account,
  password: string,
): Promise<ProvenLogin | undefined> {
  const { tenantSlug, email } = account;
  return lockout.guard(account, async () => {
    const tenant = await withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug));
    // Without a tenant the user is looked for all the same, in one that is not there.
    const tenantId = tenant?.id ?? randomUUID();
    const user = await withTenant(db, tenantId, (trx) => findUserByEmail(trx, tenantId, email));
    const right = await verifyPassword(password, user?.password_hash);
    if (!tenant || !user || !right || user.state === "DISABLED" || hasExpired(user)) return undefined;
    return { tenant, user };
  });
}

/** Whether a temporary password can no longer be used. */
export function hasExpired({ temporary_password_expires_at: expiresAt }: UserRow): boolean {
  return expiresAt !== null && expiresAt.getTime() <= Date.now();
}
