import type { TenantSettingsCache } from "../auth/tenants/settings.ts";
import { notFound } from "../rpc/errors.ts";

const form = /^krn:([a-z0-9][a-z0-9-]{1,61}[a-z0-9]):client:/;

/** The slug of the tenant that a client's KRN names; undefined where it is no KRN of a client. */
export function tenantSlugOf(clientKrn: string): string | undefined {
  return form.exec(clientKrn)?.[1];
}

/**
 * Makes sure that a client is the tenant's. Throws NOT_FOUND, whether or not there is such a tenant. A promise only where the
 * tenant is not known here.
 */
export function requireOwnClient(
  tenants: TenantSettingsCache,
  tenantId: string,
  clientKrn: string,
): Promise<void> | undefined {
  const known = tenants.peek(tenantId);
  if (!known) return tenants.load(tenantId).then((settings) => requireClientOf(settings?.slug, clientKrn));
  requireClientOf(known.slug, clientKrn);
  return undefined;
}

function requireClientOf(slug: string | undefined, clientKrn: string): void {
  if (slug === undefined || !clientKrn.startsWith(`krn:${slug}:client:`)) throw notFound("client", clientKrn);
}
