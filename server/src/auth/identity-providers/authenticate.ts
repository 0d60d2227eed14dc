import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Context } from "../../context.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { type Caller, tenantSuspended } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { scopesOfRole } from "../roles.ts";
import { readSessionChange, sessionsChannel } from "../sessions/changes.ts";
import { tenantsChannel } from "../tenants/settings.ts";
import { readIdentity } from "./claims.ts";
import { createKnownProviders, identityProvidersChannel, type TenantProviders } from "./known-providers.ts";
import { claimMappingOf } from "./messages.ts";
import { createProviderKeys } from "./remote-keys.ts";
import { type SignedIn, signIn } from "./sign-in.ts";
import { type IdentityProviderRow, noteKeysFetched } from "./store.ts";
import { couldBeOf, invalidToken, verifyExternal } from "./verify.ts";

/** Finds the callers of tokens that outside issuers have signed. */
export interface ExternalAuthenticator {
  /** Throws INVALID_TOKEN, TENANT_SUSPENDED, TENANT_LIMIT and DEPENDENCY_UNAVAILABLE. */
  fromToken(token: string, tenantSlug: string | undefined): Promise<Caller>;
  close(): Promise<void>;
}

interface KnownCaller {
  readonly caller: Caller;
  readonly loadedAtMs: number;
}

/** How long a caller is believed while the bus is broken, so that a deleted provider works no longer than a second. */
const unheardTtlMs = 900;
/** Two first calls of one person may meet; then one of them finds what the other has made. */
const signInAttempts = 3;

/** A token that was seen lately costs no signature and no query. */
export function createExternalAuthenticator({
  db,
  bus,
  config,
  logger,
  standings,
}: Pick<Context, "db" | "bus" | "config" | "logger" | "standings">): ExternalAuthenticator {
  const providers = createKnownProviders(db, bus);
  const notes = new Set<Promise<void>>();
  const keys = createProviderKeys(config.auth.identityProviders, ({ tenant_id, id }, error) => {
    const note = withTenant(db, tenant_id, (trx) => noteKeysFetched(trx, tenant_id, id, error))
      .catch((err: unknown) => logger.warn({ err, id }, "it could not be noted how fetching keys has ended"))
      .finally(() => notes.delete(note));
    notes.add(note);
  });
  const known = new LRUCache<string, KnownCaller>({ max: config.auth.sessionCacheSize });
  const pending = new Map<string, Promise<Caller>>();
  const ttlMs = config.auth.apiKeyCacheTtlSeconds * 1_000;
  /** Counts what was forgotten: what was found before is not remembered. */
  let forgotten = 0;

  const forget = (message: string | undefined) => {
    forgotten++;
    pending.clear();
    const change = message === undefined ? undefined : readSessionChange(message);
    for (const [key, { caller }] of known.entries()) {
      if (change && change.tenantId !== caller.tenantId) continue;
      if (!change?.userId || change.userId === caller.userId) known.delete(key);
    }
  };
  const subscriptions = [
    bus.subscribe(sessionsChannel, forget),
    bus.subscribe(tenantsChannel, forget),
    bus.subscribe(identityProvidersChannel, (message) => {
      forget(message);
      const tenantId = readSessionChange(message)?.tenantId;
      if (tenantId) keys.forgetTenant(tenantId);
    }),
    bus.onGap(() => forget(undefined)),
  ];

  async function authenticate(cacheKey: string, token: string, tenantSlug: string): Promise<Caller> {
    const tenant = await providers.find(tenantSlug);
    const candidates = tenant?.providers.filter((provider) => couldBeOf(provider, token)) ?? [];
    const [provider] = candidates;
    if (!tenant || !provider)
      throw invalidToken("the tenant that was named does not trust its issuer and audience");
    const before = forgotten;
    const payload = await verifyExternal(token, provider, keys.of(provider));
    if (tenant.suspended) throw tenantSuspended();
    const identity = readIdentity(payload, claimMappingOf(provider));
    if (!identity) throw invalidToken("it does not say who its subject is");
    const { user, changed } = await signInOnce(tenant, provider, tenantSlug, identity);
    const caller = callerOf(user, provider, Number(payload.exp) * 1_000);
    if (changed) await standings.changed({ tenantId: user.tenant_id, userId: user.id });
    else if (forgotten === before) known.set(cacheKey, { caller, loadedAtMs: Date.now() });
    return caller;
  }

  async function signInOnce(
    { tenantId }: TenantProviders,
    provider: IdentityProviderRow,
    tenantSlug: string,
    identity: Parameters<typeof signIn>[4],
  ): Promise<SignedIn> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await withTenant(db, tenantId, (trx) => signIn(trx, config, provider, tenantSlug, identity));
      } catch (error) {
        if (classifyDatabaseError(error)?.kind !== "conflict") throw error;
        if (attempt === signInAttempts) {
          throw invalidToken(
            "another identity of its issuer is tied to the user with its e-mail address",
            error,
          );
        }
      }
    }
  }

  return {
    async fromToken(token, tenantSlug) {
      if (!tenantSlug) throw tenantNotNamed();
      const cacheKey = hash("sha256", `${tenantSlug} ${token}`, "base64");
      const found = known.get(cacheKey);
      if (found) {
        const now = Date.now();
        const believedMs = bus.connected ? ttlMs : unheardTtlMs;
        if (now < (found.caller.expiresAtMs ?? 0) && now - found.loadedAtMs < believedMs) return found.caller;
      }
      let running = pending.get(cacheKey);
      if (!running) {
        running = authenticate(cacheKey, token, tenantSlug).finally(() => {
          if (pending.get(cacheKey) === running) pending.delete(cacheKey);
        });
        pending.set(cacheKey, running);
      }
      return await running;
    },
    async close() {
      for (const end of subscriptions) end();
      providers.close();
      await Promise.all(notes);
    },
  };
}

function callerOf(user: SignedIn["user"], provider: IdentityProviderRow, expiresAtMs: number): Caller {
  return {
    kind: "user",
    tenantId: user.tenant_id,
    userId: user.id,
    apiKeyId: undefined,
    name: user.email,
    identityProviderId: provider.id,
    sessionId: undefined,
    role: user.role,
    expiresAtMs,
    // Never PLATFORM_ADMIN: a provider is the tenant's, and so is what it vouches for.
    scopes: scopesOfRole(user.role, false),
    storeIds: [],
    mustChangePassword: false,
  };
}

function tenantNotNamed() {
  return failure(
    ErrorReason.INVALID_TOKEN,
    "a token of an identity provider is taken only where the call names the tenant; " +
      "send its slug in the header 'x-pulsewire-tenant', or call for a client whose KRN names it",
  );
}
