/** The demo tenant of the embedded default: made once, its credentials kept readable by the owner of the folder only. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { newResourceId } from "./auth/ids.ts";
import { apiKeyPrefix, hashApiKey, newApiKey } from "./auth/keys/secret.ts";
import { insertApiKey } from "./auth/keys/store.ts";
import { hashPassword, temporaryPassword } from "./auth/passwords.ts";
import { scopesOfRole } from "./auth/roles.ts";
import { findTenantBySlug, insertTenant } from "./auth/tenants/store.ts";
import { insertUser } from "./auth/users/store.ts";
import { demoTenantSlug } from "./config/tenants.ts";
import type { Context } from "./context.ts";
import { withLookup, withTenant } from "./db/tenant.ts";
import { Scope } from "./gen/pulsewire/options/v1/access_pb.js";

/** The content of `demo.json`. */
export interface DemoCredentials {
  readonly endpoint: string;
  readonly tenantSlug: string;
  readonly email: string;
  readonly password: string;
  readonly apiKey: string;
}

const demoEmail = "owner@demo.example";

/**
 * Makes the demo tenant on the first start and writes `demo.json`; later starts only bring the endpoint up to date.
 * Returns undefined where the tenant is there but its credentials are not: they cannot be shown again.
 */
export async function prepareDemo(
  context: Pick<Context, "config" | "db" | "findPublicTenant">,
  endpoint: string,
): Promise<DemoCredentials | undefined> {
  const file = join(context.config.dataDir, "demo.json");
  // A crash may have left the draft of credentials whose tenant was made.
  const draft = `${file}.new`;
  const kept = readCredentials(file) ?? readCredentials(draft);
  const tenantSlug = demoTenantSlug;
  const tenant = await withLookup(context.db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug));
  if (tenant && !kept) return undefined;
  const credentials = { ...(kept ?? newCredentials()), endpoint };
  // Drafted before the tenant is made, so that no crash leaves a tenant without credentials; renamed into place after,
  // so that whoever reads the file can use them at once.
  writeFileSync(draft, `${JSON.stringify(credentials, null, 2)}\n`, { mode: 0o600 });
  if (!tenant) await makeTenant(context, credentials);
  renameSync(draft, file);
  await context.findPublicTenant();
  return credentials;
}

function newCredentials(): Omit<DemoCredentials, "endpoint"> {
  return { tenantSlug: demoTenantSlug, email: demoEmail, password: temporaryPassword(), apiKey: newApiKey() };
}

async function makeTenant(
  { db }: Pick<Context, "db">,
  { email, password, apiKey }: DemoCredentials,
): Promise<void> {
  const passwordHash = await hashPassword(password);
  const tenantId = newResourceId();
  const ownerId = newResourceId();
  await withTenant(db, tenantId, async (trx) => {
    await insertTenant(trx, { id: tenantId, slug: demoTenantSlug, name: "Demo", contact_email: email });
    await insertUser(trx, {
      tenant_id: tenantId,
      id: ownerId,
      email,
      display_name: "Demo owner",
      password_hash: passwordHash,
      role: "OWNER",
    });
    await insertApiKey(trx, {
      tenant_id: tenantId,
      id: newResourceId(),
      name: "demo",
      key_prefix: apiKeyPrefix(apiKey),
      key_hash: hashApiKey(apiKey),
      scopes: [...scopesOfRole("OWNER", false)].map((scope) => Scope[scope]),
      store_ids: [],
      created_by: ownerId,
    });
  });
}

function readCredentials(file: string): DemoCredentials | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as DemoCredentials;
  } catch {
    return undefined;
  }
}
