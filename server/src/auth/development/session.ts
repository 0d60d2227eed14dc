import type { Context } from "../../context.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { type TenantTransaction, withLookup, withTenant } from "../../db/tenant.ts";
import { tenantSuspended } from "../../rpc/caller.ts";
import { invalidField } from "../../rpc/errors.ts";
import { newResourceId } from "../ids.ts";
import { noteSignIn } from "../sessions/open.ts";
import { deleteExpiredSessions, insertSession, type SessionRow } from "../sessions/store.ts";
import { developmentSlugPrefix } from "../tenants/messages.ts";
import { findTenantBySlug, insertTenant } from "../tenants/store.ts";
import { findUserByEmail, insertUser, type UserRow } from "../users/store.ts";

/** Who asks, without proof. */
export interface DevelopmentUser {
  readonly userId: string;
  readonly username: string;
  /** In lower case; may be empty. */
  readonly email: string;
}

/** Opens a session that cannot be refreshed, for a user and tenant that are made when first named. */
export async function openDevelopmentSession(
  { db, config }: Pick<Context, "db" | "config">,
  asked: DevelopmentUser,
  enter: (trx: TenantTransaction, opened: { session: SessionRow; user: UserRow }) => Promise<void>,
): Promise<SessionRow> {
  const tenantId = await ensureTenant(db, asked);
  return await withTenant(db, tenantId, async (trx) => {
    const tenant = await trx
      .selectFrom("tenants")
      .select("state")
      .where("id", "=", tenantId)
      .executeTakeFirst();
    if (tenant?.state !== "ACTIVE") throw tenantSuspended();
    const user = await ensureUser(trx, tenantId, asked);
    await deleteExpiredSessions(trx, tenantId, user.id);
    await noteSignIn(trx, tenantId, user.id);
    const session = await insertSession(trx, {
      tenant_id: tenantId,
      id: newResourceId(),
      user_id: user.id,
      expires_at: new Date(Date.now() + config.auth.developmentTokenTtlSeconds * 1_000),
    });
    await enter(trx, { session, user });
    return session;
  });
}

async function ensureTenant(db: Context["db"], asked: DevelopmentUser): Promise<string> {
  const tenantSlug = `${developmentSlugPrefix}${asked.userId}`;
  const find = () => withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug));
  const found = await find();
  if (found) return found.id;
  const id = newResourceId();
  try {
    await withTenant(db, id, (trx) =>
      insertTenant(trx, {
        id,
        slug: tenantSlug,
        name: asked.username || asked.userId,
        contact_email: addressOf(asked),
      }),
    );
    return id;
  } catch (error) {
    // Another call was faster.
    const winner = classifyDatabaseError(error)?.kind === "conflict" ? await find() : undefined;
    if (!winner) throw error;
    return winner.id;
  }
}

/** The user of the token: made, or brought up to date with the name and address that were given now. */
async function ensureUser(
  trx: TenantTransaction,
  tenantId: string,
  asked: DevelopmentUser,
): Promise<UserRow> {
  await trx.selectFrom("tenants").select("id").where("id", "=", tenantId).forNoKeyUpdate().execute();
  const found = await trx
    .selectFrom("users")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("external_id", "=", asked.userId)
    .executeTakeFirst();
  if (!found) {
    return await insertUser(trx, {
      tenant_id: tenantId,
      id: newResourceId(),
      email: addressOf(asked),
      display_name: asked.username,
      external_id: asked.userId,
      role: "OWNER",
    });
  }
  const changed = {
    ...(asked.username && asked.username !== found.display_name && { display_name: asked.username }),
    ...(asked.email && asked.email !== found.email && { email: asked.email, email_verified: false }),
  };
  if (Object.keys(changed).length === 0) return found;
  const taken = changed.email && (await findUserByEmail(trx, tenantId, changed.email));
  if (taken) throw invalidField("email", "belongs to another user of this tenant", "unique");
  return await trx
    .updateTable("users")
    .set({ ...changed, updated_at: new Date() })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", found.id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** RFC 2606: mail to `.invalid` reaches nobody. */
function addressOf({ userId, email }: DevelopmentUser): string {
  return email || `${userId}@dev.invalid`;
}
