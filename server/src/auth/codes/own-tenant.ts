import { randomInt } from "node:crypto";
import type { TenantTransaction } from "../../db/tenant.ts";
import { newResourceId } from "../ids.ts";
import { insertTenant, type TenantRow } from "../tenants/store.ts";
import { insertUser, type UserRow } from "../users/store.ts";

const alphabet = "abcdefghijkmnpqrstuvwxyz23456789";
const suffixLength = 8;
const maxBaseLength = 40;

/** A tenant for a new address, and its owner, who has no password. The id is the one that the transaction is in. */
export async function insertOwnTenant(
  trx: TenantTransaction,
  tenantId: string,
  email: string,
): Promise<{ tenant: TenantRow; user: UserRow }> {
  const tenant = await insertTenant(trx, {
    id: tenantId,
    slug: slugFor(email),
    name: email.slice(0, 200),
    contact_email: email,
  });
  const user = await insertUser(trx, {
    tenant_id: tenantId,
    id: newResourceId(),
    email,
    display_name: "",
    role: "OWNER",
    email_verified: true,
  });
  return { tenant, user };
}

/** The address's local part, to be recognised by, and 40 random bits, to be unique. */
function slugFor(email: string): string {
  const local = email
    .slice(0, email.lastIndexOf("@"))
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^(?:dev)?-+|-+$/g, "")
    .slice(0, maxBaseLength);
  const suffix = Array.from({ length: suffixLength }, () => alphabet[randomInt(alphabet.length)]).join("");
  return `${local || "tenant"}-${suffix}`.replace(/-{2,}/g, "-");
}
