import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { Bus } from "../../bus/bus.ts";
import type { Database } from "../../db/schema.ts";
import { withLookup, withTenant } from "../../db/tenant.ts";
import { readSessionChange } from "../sessions/changes.ts";
import { tenantsChannel } from "../tenants/settings.ts";
import { findTenantBySlug } from "../tenants/store.ts";
import { allIdentityProviders, type IdentityProviderRow } from "./store.ts";

/** The bus channel that says whose identity providers have changed: `{ tenantId }`, after the commit. */
export const identityProvidersChannel = "identity-providers";

/** The providers that a tenant trusts, as far as calls need them. */
export interface TenantProviders {
  readonly tenantId: string;
  readonly suspended: boolean;
  readonly providers: readonly IdentityProviderRow[];
  readonly loadedAtMs: number;
}

/** Providers by the slug of the tenant, remembered, and forgotten in every process as soon as they change in one. */
export interface KnownProviders {
  /** Undefined: no such tenant. */
  find(tenantSlug: string): Promise<TenantProviders | undefined>;
  close(): void;
}

const maxTenants = 10_000;
/** How long they are believed: with a working bus, and without. */
const ttlMs = { heard: 300_000, unheard: 900 };
/** How long a slug stays unknown, so that a wrong one does not cost a query per call. */
const unknownTtlMs = 5_000;

export function createKnownProviders(
  db: Kysely<Database>,
  bus: Pick<Bus, "subscribe" | "onGap" | "connected">,
): KnownProviders {
  const known = new LRUCache<string, TenantProviders>({ max: maxTenants });
  const unknown = new LRUCache<string, number>({ max: maxTenants });
  /** Counts what was forgotten: a read that began before is not remembered. */
  let forgotten = 0;

  const forget = (message: string | undefined) => {
    forgotten++;
    const tenantId = message === undefined ? undefined : readSessionChange(message)?.tenantId;
    for (const [slug, entry] of known.entries()) {
      if (tenantId === undefined || entry.tenantId === tenantId) known.delete(slug);
    }
  };
  const subscriptions = [
    bus.subscribe(identityProvidersChannel, forget),
    bus.subscribe(tenantsChannel, forget),
    bus.onGap(() => forget(undefined)),
  ];

  async function load(tenantSlug: string): Promise<TenantProviders | undefined> {
    const before = forgotten;
    const loadedAtMs = Date.now();
    const tenant = await withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug));
    if (!tenant) {
      unknown.set(tenantSlug, Date.now() + unknownTtlMs);
      return undefined;
    }
    const providers = await withTenant(db, tenant.id, (trx) => allIdentityProviders(trx, tenant.id));
    const found = { tenantId: tenant.id, suspended: tenant.state === "SUSPENDED", providers, loadedAtMs };
    if (forgotten === before) known.set(tenantSlug, found);
    return found;
  }

  return {
    async find(tenantSlug) {
      const found = known.get(tenantSlug);
      if (found && Date.now() - found.loadedAtMs < (bus.connected ? ttlMs.heard : ttlMs.unheard))
        return found;
      if (Date.now() < (unknown.get(tenantSlug) ?? 0)) return undefined;
      return await load(tenantSlug);
    },
    close() {
      for (const end of subscriptions) end();
    },
  };
}
