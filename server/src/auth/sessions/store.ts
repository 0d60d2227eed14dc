import type { Insertable, Selectable } from "kysely";
import type { Role, SessionsTable, UserState } from "../../db/schema/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

export type SessionRow = Selectable<SessionsTable>;

export async function insertSession(
  trx: TenantTransaction,
  session: Insertable<SessionsTable>,
): Promise<SessionRow> {
  return await trx.insertInto("sessions").values(session).returningAll().executeTakeFirstOrThrow();
}

/** A session with what its user may do now. */
export interface SessionStanding {
  readonly epoch: number;
  readonly restricted: boolean;
  readonly expires_at: Date;
  readonly user_id: string;
  readonly role: Role;
  readonly user_state: UserState;
  readonly email: string;
  readonly slug: string;
}

export async function getStanding(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<SessionStanding | undefined> {
  return await trx
    .selectFrom("sessions as s")
    .innerJoin("users as u", (join) =>
      join.onRef("u.tenant_id", "=", "s.tenant_id").onRef("u.id", "=", "s.user_id"),
    )
    .innerJoin("tenants as t", "t.id", "s.tenant_id")
    .select(["s.epoch", "s.restricted", "s.expires_at", "s.user_id", "u.role", "u.email", "t.slug"])
    .select(["u.state as user_state"])
    .where("s.tenant_id", "=", tenantId)
    .where("s.id", "=", id)
    .executeTakeFirst();
}

/** The session, locked so that of two calls with one refresh token the second sees what the first has done. */
export async function lockSession(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<SessionRow | undefined> {
  return await trx
    .selectFrom("sessions")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .forUpdate()
    .executeTakeFirst();
}

/** Puts the next refresh token in place of the last; with `epoch`, access tokens of earlier epochs end as well. */
export async function rotateSession(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<SessionRow, "tenant_id" | "id">,
  next: {
    refresh_hash: Buffer;
    expires_at: Date;
    family_hash?: Buffer;
    epoch?: number;
    restricted?: boolean;
  },
): Promise<void> {
  await trx
    .updateTable("sessions")
    .set(next)
    .where("tenant_id", "=", tenant_id)
    .where("id", "=", id)
    .executeTakeFirstOrThrow();
}

/** Which sessions: one, all of a user, or all of a user but one. */
export type WhichSessions =
  | { readonly sessionId: string }
  | { readonly userId: string; readonly except?: string };

/** Ends sessions; returns how many could still be used. */
export async function deleteSessions(
  trx: TenantTransaction,
  tenantId: string,
  which: WhichSessions,
): Promise<number> {
  const all = trx.deleteFrom("sessions").where("tenant_id", "=", tenantId);
  const chosen =
    "sessionId" in which
      ? all.where("id", "=", which.sessionId)
      : which.except
        ? all.where("user_id", "=", which.userId).where("id", "<>", which.except)
        : all.where("user_id", "=", which.userId);
  const rows = await chosen.returning("expires_at").execute();
  const now = Date.now();
  return rows.filter((row) => row.expires_at.getTime() > now).length;
}

/** Deletes what a user's expired sessions have left. */
export async function deleteExpiredSessions(
  trx: TenantTransaction,
  tenantId: string,
  userId: string,
): Promise<void> {
  await trx
    .deleteFrom("sessions")
    .where("tenant_id", "=", tenantId)
    .where("user_id", "=", userId)
    .where("expires_at", "<=", new Date())
    .execute();
}
