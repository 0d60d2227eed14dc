import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import { newResourceId } from "../ids.ts";
import { hashPassword, temporaryPassword } from "../passwords.ts";
import { insertUser, type UserRow } from "../users/store.ts";
import { insertTenant, type TenantRow } from "./store.ts";

const temporaryPasswordTtlMs = 7 * 86_400_000;

export interface RegisteredTenant {
  readonly tenant: TenantRow;
  readonly owner: UserRow;
  /** Good until `expiresAt`; stored as a hash only. */
  readonly temporaryPassword: string;
  readonly expiresAt: Date;
}

/** Makes a tenant and its owner, who gets a temporary password. Throws ALREADY_EXISTS when the slug is taken. */
export async function registerTenant(
  db: Kysely<Database>,
  { name, slug, contactEmail }: { name: string; slug: string; contactEmail: string },
): Promise<RegisteredTenant> {
  const password = temporaryPassword();
  const passwordHash = await hashPassword(password);
  const expiresAt = new Date(Date.now() + temporaryPasswordTtlMs);
  const tenantId = newResourceId();
  try {
    return await withTenant(db, tenantId, async (trx) => {
      const tenant = await insertTenant(trx, { id: tenantId, slug, name, contact_email: contactEmail });
      const owner = await insertUser(trx, {
        tenant_id: tenantId,
        id: newResourceId(),
        email: contactEmail.toLowerCase(),
        display_name: "",
        password_hash: passwordHash,
        must_change_password: true,
        temporary_password_expires_at: expiresAt,
        role: "OWNER",
      });
      return { tenant, owner, temporaryPassword: password, expiresAt };
    });
  } catch (error) {
    if (classifyDatabaseError(error)?.kind !== "conflict") throw error;
    throw failure(ErrorReason.ALREADY_EXISTS, `the slug '${slug}' is taken; choose another`, {
      metadata: { resource: "tenant", field: "slug" },
      violations: [{ field: "slug", description: "is taken", rule: "unique" }],
    });
  }
}
