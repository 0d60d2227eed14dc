import type { Context } from "../../context.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { tenantSuspended } from "../../rpc/caller.ts";
import { newResourceId } from "../ids.ts";
import { type OpenedSession, openSession } from "../sessions/open.ts";
import { getTenant, type TenantRow } from "../tenants/store.ts";
import type { UserRow } from "../users/store.ts";
import { invalidCode } from "./codes.ts";
import { insertOwnTenant } from "./own-tenant.ts";
import { type StoredCode, useCode } from "./store.ts";

/** Somebody who is signed in. */
export interface CodeSignIn {
  readonly tenant: TenantRow;
  readonly opened: OpenedSession & { readonly user: UserRow };
}

/** Enters the sign-in in the audit log, in its transaction. */
export type SignInEntry = (trx: TenantTransaction, opened: CodeSignIn["opened"]) => Promise<void>;

/** Uses the code up and signs in to a tenant that is there. The address is verified from now on. */
export function signInToMembership(
  { db, config }: Pick<Context, "db" | "config">,
  user: UserRow,
  code: StoredCode,
  enter: SignInEntry,
): Promise<CodeSignIn> {
  return withTenant(db, user.tenant_id, async (trx) => {
    if (!(await useCode(trx, code))) throw invalidCode();
    const tenant = await getTenant(trx, user.tenant_id);
    if (!tenant) throw invalidCode();
    if (tenant.state === "SUSPENDED") throw tenantSuspended();
    await trx
      .updateTable("users")
      .set({ email_verified: true })
      .where("tenant_id", "=", user.tenant_id)
      .where("id", "=", user.id)
      .execute();
    return { tenant, opened: await open(trx, config, user, enter) };
  });
}

const slugAttempts = 3;

/** Uses the code up and signs in to a new tenant of the address's own. */
export async function signInToNewTenant(
  { db, config }: Pick<Context, "db" | "config">,
  email: string,
  code: StoredCode,
  enter: SignInEntry,
): Promise<CodeSignIn> {
  for (let attempt = 1; ; attempt++) {
    const tenantId = newResourceId();
    try {
      return await withTenant(db, tenantId, async (trx) => {
        if (!(await useCode(trx, code))) throw invalidCode();
        const { tenant, user } = await insertOwnTenant(trx, tenantId, email);
        return { tenant, opened: await open(trx, config, user, enter) };
      });
    } catch (error) {
      const slugTaken = classifyDatabaseError(error)?.kind === "conflict";
      if (!slugTaken || attempt >= slugAttempts) throw error;
    }
  }
}

/** A session that is not restricted: a temporary password is something that others know, a code is not. */
async function open(trx: TenantTransaction, config: Context["config"], user: UserRow, enter: SignInEntry) {
  const opened = await openSession(trx, user, {
    restricted: false,
    ttlSeconds: config.auth.refreshTokenTtlSeconds,
  });
  if (!opened) throw invalidCode();
  await enter(trx, opened);
  return opened;
}
