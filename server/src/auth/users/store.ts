import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type { Role, UserState, UsersTable } from "../../db/schema/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import { laterThan } from "../tenants/store.ts";

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
    .where("email", "=", email.toLowerCase())
    .executeTakeFirst();
}

/** The columns of a user that go with a password. */
export type PasswordColumns = Pick<
  UserRow,
  "password_hash" | "must_change_password" | "temporary_password_expires_at"
>;

/** Those of a password of the user's own. */
export function ownPassword(password_hash: string): PasswordColumns {
  return { password_hash, must_change_password: false, temporary_password_expires_at: null };
}

/** Replaces a password; undefined when the user is disabled or gone. */
export async function setPassword(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<UserRow, "tenant_id" | "id">,
  columns: PasswordColumns,
): Promise<UserRow | undefined> {
  return await trx
    .updateTable("users")
    .set({ ...columns, updated_at: new Date() })
    .where("tenant_id", "=", tenant_id)
    .where("id", "=", id)
    .where("state", "<>", "DISABLED")
    .returningAll()
    .executeTakeFirst();
}

export interface UserQuery {
  readonly role: Role | undefined;
  readonly state: UserState | undefined;
  readonly emailContains: string;
}

/** A page of people by e-mail address, after the address `after`. */
export function listUsers(
  trx: TenantTransaction,
  tenantId: string,
  { role, state, emailContains }: UserQuery,
  limit: number,
  after: string | undefined,
): Promise<UserRow[]> {
  let select = trx
    .selectFrom("users")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("email")
    .limit(limit);
  if (role) select = select.where("role", "=", role);
  if (state) select = select.where("state", "=", state);
  if (emailContains) {
    select = select.where(sql<boolean>`position(${emailContains.toLowerCase()} in email) > 0`);
  }
  if (after !== undefined) select = select.where("email", ">", after);
  return select.execute();
}

/** Changes a user who is there. */
export function updateUser(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<UserRow, "tenant_id" | "id">,
  changes: Pick<Updateable<UsersTable>, "display_name" | "role" | "state">,
): Promise<UserRow> {
  return trx
    .updateTable("users")
    .set({ ...changes, updated_at: laterThan(sql.ref("updated_at")) })
    .where("tenant_id", "=", tenant_id)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

export async function deleteUser(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<UserRow, "tenant_id" | "id">,
): Promise<void> {
  await trx.deleteFrom("users").where("tenant_id", "=", tenant_id).where("id", "=", id).execute();
}

/** How many other owners the tenant has, by state. To be counted under the tenant's lock. */
export async function countOtherOwners(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<UserRow, "tenant_id" | "id">,
): Promise<Record<UserState, bigint>> {
  const rows = await trx
    .selectFrom("users")
    .select(["state", ({ fn }) => fn.countAll<bigint>().as("owners")])
    .where("tenant_id", "=", tenant_id)
    .where("role", "=", "OWNER")
    .where("id", "<>", id)
    .groupBy("state")
    .execute();
  const counts = { INVITED: 0n, ACTIVE: 0n, DISABLED: 0n };
  for (const { state, owners } of rows) counts[state] = owners;
  return counts;
}
