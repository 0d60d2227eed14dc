/** Who may have a tenant, and what tenants may use. */
import type { Settings } from "./setting-names.ts";
import { ConfigError, oneOf } from "./values.ts";

export interface TenantsConfig {
  /** Whether anyone may register a tenant. Default: open. */
  readonly registrationOpen: boolean;
  /** Slug of the tenant whose open reads need no credentials; undefined: none. */
  readonly publicTenant: string | undefined;
  /** Who holds PLATFORM_ADMIN, as `email/slug` in lower case; see `isPlatformAdmin`. Default: nobody. */
  readonly platformAdmins: ReadonlySet<string>;
  /** Limits of tenants for which none is set, by the names of TenantLimits; 0: without limit, the default of all. */
  readonly limits: TenantLimitDefaults;
}

/** A field of TenantLimits in the contract. */
export const tenantLimitNames = [
  "stores",
  "series",
  "users",
  "functions",
  "apiKeys",
  "eventsPerDay",
  "samplesPerDay",
  "costBudgetMicros",
  "requestsPerMinute",
] as const;
export type TenantLimitName = (typeof tenantLimitNames)[number];
export type TenantLimitDefaults = Readonly<Record<TenantLimitName, bigint>>;

/** The tenant that the embedded default creates. */
export const demoTenantSlug = "demo";

export function tenantsConfig(env: Settings, embedded: boolean): TenantsConfig {
  return {
    registrationOpen: oneOf(env, "PULSEWIRE_REGISTRATION", ["open", "closed"]) !== "closed",
    publicTenant: env.PULSEWIRE_PUBLIC_TENANT ?? (embedded ? demoTenantSlug : undefined),
    platformAdmins: platformAdmins(env.PULSEWIRE_PLATFORM_ADMINS),
    limits: tenantLimits(env.PULSEWIRE_TENANT_LIMITS),
  };
}

/** E-mail addresses and tenant slugs, with commas. */
function platformAdmins(text = ""): Set<string> {
  const entries = text.split(",").map((entry) => entry.trim().toLowerCase());
  for (const entry of entries) {
    // Anyone may get a tenant `dev-…` from the development token.
    if (entry && !/^[^\s/@]+@[^\s/@]+\/(?!dev-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(entry)) {
      throw new ConfigError(
        `PULSEWIRE_PLATFORM_ADMINS has '${entry}'; each entry must be an e-mail address, '/' and a tenant's slug, ` +
          "such as operator@example.org/operations, with commas between",
      );
    }
  }
  return new Set(entries.filter(Boolean));
}

function tenantLimits(text = ""): TenantLimitDefaults {
  const limits = Object.fromEntries(tenantLimitNames.map((name) => [name, 0n])) as Record<
    TenantLimitName,
    bigint
  >;
  for (const entry of text.split(",").map((part) => part.trim())) {
    if (!entry) continue;
    const [, word, value] = /^([a-z_]+)=(\d{1,15})$/.exec(entry) ?? [];
    const name = tenantLimitNames.find((candidate) => snakeCase(candidate) === word);
    if (!name || value === undefined) {
      throw new ConfigError(
        `PULSEWIRE_TENANT_LIMITS has '${entry}'; each entry must be a name, '=' and a whole number, such as ` +
          `users=100, with commas between; the names are ${tenantLimitNames.map(snakeCase).join(", ")}`,
      );
    }
    limits[name] = BigInt(value);
  }
  return limits;
}

/** A name of the code as the contract spells it. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
