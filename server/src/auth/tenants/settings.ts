import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { Bus } from "../../bus/bus.ts";
import type { Config } from "../../config/config.ts";
import type { TenantLimitDefaults } from "../../config/tenants.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import { limitsInForce } from "./limits-in-force.ts";
import { getTenant } from "./store.ts";

/** What calls need to know of their tenant. */
export interface TenantSettings {
  /** What the KRNs of its clients name it by. */
  readonly slug: string;
  readonly suspended: boolean;
  /** The limits in force, by the names of TenantLimits; 0: without limit. */
  readonly limits: TenantLimitDefaults;
}

/** The settings of tenants, remembered; a change counts in every process within a second. */
export interface TenantSettingsCache {
  /** What is remembered; undefined where `load` must be asked. Costs no query. */
  peek(tenantId: string): TenantSettings | undefined;
  /** Undefined: there is no such tenant. */
  load(tenantId: string): Promise<TenantSettings | undefined>;
  /** Ends the subscriptions. */
  close(): void;
}

/** Where changes of tenants are told: `{ tenantId }`, after the commit. */
export const tenantsChannel = "tenants";

/** How long settings are believed: without the bus, and with it, where messages may still have been lost. */
const believedMs = { withoutBus: 1_000, withBus: 300_000 };
const maxTenants = 50_000;

interface Known {
  readonly settings: TenantSettings | undefined;
  readonly loadedAtMs: number;
}

export function createTenantSettings(db: Kysely<Database>, bus: Bus, config: Config): TenantSettingsCache {
  const known = new LRUCache<string, Known>({ max: maxTenants });
  const loading = new Map<string, Promise<TenantSettings | undefined>>();

  const forget = (tenantId?: string) => {
    // What is being read may be older than the change: it is answered, but not remembered.
    if (tenantId === undefined) {
      known.clear();
      loading.clear();
    } else {
      known.delete(tenantId);
      loading.delete(tenantId);
    }
  };
  const subscriptions = [
    bus.subscribe(tenantsChannel, (message) => forget(readTenantId(message))),
    bus.onGap(() => forget()),
  ];

  const read = async (tenantId: string) => {
    const row = await withTenant(db, tenantId, (trx) => getTenant(trx, tenantId));
    if (!row) return undefined;
    return {
      slug: row.slug,
      suspended: row.state === "SUSPENDED",
      limits: limitsInForce(row, config.tenants.limits),
    };
  };

  return {
    peek(tenantId) {
      const found = known.get(tenantId);
      if (!found) return undefined;
      const believed = bus.connected ? believedMs.withBus : believedMs.withoutBus;
      return Date.now() - found.loadedAtMs <= believed ? found.settings : undefined;
    },
    load(tenantId) {
      const running = loading.get(tenantId);
      if (running) return running;
      const loadedAtMs = Date.now();
      const started = read(tenantId)
        .then((settings) => {
          if (loading.get(tenantId) === started) known.set(tenantId, { settings, loadedAtMs });
          return settings;
        })
        .finally(() => {
          if (loading.get(tenantId) === started) loading.delete(tenantId);
        });
      loading.set(tenantId, started);
      return started;
    },
    close() {
      for (const end of subscriptions) end();
    },
  };
}

function readTenantId(message: string): string | undefined {
  try {
    const { tenantId } = JSON.parse(message);
    return typeof tenantId === "string" ? tenantId : undefined;
  } catch {
    // Not ours to understand: forget all, to be safe.
    return undefined;
  }
}
