import type { Insertable, Selectable } from "kysely";
import type { UsersTable } from "../../db/schema.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

export type UserRow = Selectable<UsersTable>;

export function insertUser(trx: TenantTransaction, user: Insertable<UsersTable>): Promise<UserRow> {
  return trx.insertInto("users").values(user).returningAll().executeTakeFirstOrThrow();
}

export function getUser(trx: TenantTransaction, tenantId: string, id: string): Promise<UserRow | undefined> {
  return trx
    .selectFrom("users")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

export function findUserByEmail(
  trx: TenantTransaction,
  tenantId: string,
  email: string,
): Promise<UserRow | undefined> {
  return trx
    .selectFrom("users")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where(({ eb, fn }) => eb(fn<string>("lower", ["email"]), "=", email.toLowerCase()))
    .executeTakeFirst();
}

/** Replaces a password by one of the user's own. */
export async function setPassword(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
  passwordHash: string,
): Promise<void> {
  await trx
    .updateTable("users")
    .set({
      password_hash: passwordHash,
      must_change_password: false,
      temporary_password_expires_at: null,
      updated_at: new Date(),
    })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirstOrThrow();
}
