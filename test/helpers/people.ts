import { randomUUID } from "node:crypto";
import { hashPassword } from "../../server/src/auth/passwords.ts";
import type { Role, UserState } from "../../server/src/db/schema/auth.ts";
import type { TestDatabase } from "./database.ts";

export interface TestPerson {
  readonly id: string;
  readonly email: string;
  readonly password: string;
}

/** Puts a person into a tenant, as they are after they have set a password of their own. */
export async function addPerson(
  { superuser }: TestDatabase,
  tenantId: string,
  email: string,
  given: { role?: Role; state?: UserState; verified?: boolean; createdAt?: Date } = {},
): Promise<TestPerson> {
  const { role = "MEMBER", state = "ACTIVE", verified = false, createdAt = new Date() } = given;
  const id = randomUUID();
  const password = `a password for ${email}`;
  await superuser.query(
    `insert into users (tenant_id, id, email, display_name, password_hash, role, state, email_verified, created_at)
     values ($1, $2, $3, '', $4, $5, $6, $7, $8)`,
    [tenantId, id, email, await hashPassword(password), role, state, verified, createdAt],
  );
  return { id, email, password };
}
