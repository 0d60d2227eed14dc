import type { JsonObject } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import type { UserState } from "../../db/schema/auth.ts";
import type { Database } from "../../db/schema.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import { newResourceId } from "../ids.ts";
import { insertUser, type UserRow } from "../users/store.ts";
import { makeTemporaryPassword } from "../users/temporary-password.ts";
import { insertTenant, type TenantRow } from "./store.ts";

export interface RegisteredTenant {
  readonly tenant: TenantRow;
  readonly owner: UserRow;
  /** Good until `expiresAt`; stored as a hash only. */
  readonly temporaryPassword: string;
  readonly expiresAt: Date;
}

export interface NewTenant {
  readonly name: string;
  readonly slug: string;
  readonly contactEmail: string;
  /** Default: `contactEmail`. */
  readonly ownerEmail?: string;
  /** Default: ACTIVE. */
  readonly ownerState?: UserState;
  /** TenantLimits in ProtoJSON; default: none. */
  readonly limits?: JsonObject;
}

/**
 * Makes a tenant and its owner, who gets a temporary password. `also` runs at the end of the transaction.
 * Throws ALREADY_EXISTS when the slug is taken.
 */
export async function registerTenant(
  db: Kysely<Database>,
  { name, slug, contactEmail, ownerEmail, ownerState, limits }: NewTenant,
  also?: (trx: TenantTransaction, tenant: TenantRow, owner: UserRow) => Promise<void>,
): Promise<RegisteredTenant> {
  const temporary = await makeTemporaryPassword();
  const tenantId = newResourceId();
  try {
    return await withTenant(db, tenantId, async (trx) => {
      const tenant = await insertTenant(trx, {
        id: tenantId,
        slug,
        name,
        contact_email: contactEmail,
        ...(limits && { limits: JSON.stringify(limits) }),
      });
      const owner = await insertUser(trx, {
        tenant_id: tenantId,
        id: newResourceId(),
        email: (ownerEmail ?? contactEmail).toLowerCase(),
        display_name: "",
        ...temporary.columns,
        role: "OWNER",
        state: ownerState ?? "ACTIVE",
      });
      await also?.(trx, tenant, owner);
      return { tenant, owner, temporaryPassword: temporary.password, expiresAt: temporary.expiresAt };
    });
  } catch (error) {
    if (classifyDatabaseError(error)?.kind === "conflict") throw slugTaken(slug);
    throw error;
  }
}

/** The error for a slug that cannot be had; it is not said why. */
export function slugTaken(slug: string) {
  return failure(ErrorReason.ALREADY_EXISTS, `the slug '${slug}' is taken; choose another`, {
    metadata: { resource: "tenant", field: "slug" },
    violations: [{ field: "slug", description: "is taken", rule: "unique" }],
  });
}
