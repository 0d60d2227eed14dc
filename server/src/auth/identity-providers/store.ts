import { type Insertable, type Selectable, sql } from "kysely";
import type { ExternalIdentitiesTable, IdentityProvidersTable } from "../../db/schema/auth.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

export type IdentityProviderRow = Selectable<IdentityProvidersTable>;
export type ExternalIdentityRow = Selectable<ExternalIdentitiesTable>;

export function insertIdentityProvider(
  trx: TenantTransaction,
  provider: Insertable<IdentityProvidersTable>,
): Promise<IdentityProviderRow> {
  return trx.insertInto("identity_providers").values(provider).returningAll().executeTakeFirstOrThrow();
}

/** All of a tenant, oldest first; there are few. */
export function allIdentityProviders(
  trx: TenantTransaction,
  tenantId: string,
): Promise<IdentityProviderRow[]> {
  return trx
    .selectFrom("identity_providers")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("id")
    .execute();
}

/** A page by name, after the name `after`. */
export function listIdentityProviders(
  trx: TenantTransaction,
  tenantId: string,
  limit: number,
  after: string | undefined,
): Promise<IdentityProviderRow[]> {
  let select = trx
    .selectFrom("identity_providers")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("name")
    .limit(limit);
  if (after !== undefined) select = select.where("name", ">", after);
  return select.execute();
}

/** False: there is none. */
export async function deleteIdentityProvider(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<boolean> {
  const { numDeletedRows } = await trx
    .deleteFrom("identity_providers")
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}

/** Notes how the last attempt to fetch the keys ended. */
export async function noteKeysFetched(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
  error: string,
): Promise<void> {
  await trx
    .updateTable("identity_providers")
    .set(error ? { keys_error: error } : { keys_error: "", keys_fetched_at: sql<Date>`now()` })
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .execute();
}

/** What names an identity outside. */
export type IdentityName = Pick<ExternalIdentityRow, "tenant_id" | "issuer" | "subject_claim" | "subject">;

export function findIdentity(
  trx: TenantTransaction,
  { tenant_id, issuer, subject_claim, subject }: IdentityName,
): Promise<ExternalIdentityRow | undefined> {
  return trx
    .selectFrom("external_identities")
    .selectAll()
    .where("tenant_id", "=", tenant_id)
    .where("issuer", "=", issuer)
    .where("subject_claim", "=", subject_claim)
    .where("subject", "=", subject)
    .executeTakeFirst();
}

/** Rejects with a unique violation when the identity or the user is tied already. */
export async function insertIdentity(
  trx: TenantTransaction,
  identity: Insertable<ExternalIdentitiesTable>,
): Promise<ExternalIdentityRow> {
  return await trx
    .insertInto("external_identities")
    .values(identity)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Notes whether the user's role came from the claim mapping. */
export async function setRoleMapped(
  trx: TenantTransaction,
  { tenant_id, issuer, subject_claim, subject }: IdentityName,
  roleMapped: boolean,
): Promise<void> {
  await trx
    .updateTable("external_identities")
    .set({ role_mapped: roleMapped })
    .where("tenant_id", "=", tenant_id)
    .where("issuer", "=", issuer)
    .where("subject_claim", "=", subject_claim)
    .where("subject", "=", subject)
    .execute();
}
