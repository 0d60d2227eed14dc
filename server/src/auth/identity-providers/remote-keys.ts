import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from "jose";
import { LRUCache } from "lru-cache";
import type { IdentityProvidersConfig } from "../../config/auth.ts";
import { fetchDocument } from "../../net/outbound.ts";
import { maxDocumentBytes } from "./jwks.ts";
import type { IdentityProviderRow } from "./store.ts";

/** Longest wait for an issuer. */
export const fetchTimeoutMs = 5_000;
/** How long keys are used that cannot be fetched again. */
const staleMs = 24 * 3_600_000;
const maxProviders = 10_000;

/** The keys of all providers, fetched when needed and kept. */
export interface ProviderKeys {
  of(provider: IdentityProviderRow): JWTVerifyGetKey;
  /** Forgets the keys of providers that are gone. */
  forgetTenant(tenantId: string): void;
}

/**
 * jose keeps the keys, fetches them again when they are old or a key id is unknown, and waits in between. Here is
 * what it leaves open: an issuer that is down does not end the trust in the keys that are known, and is not asked at
 * every call when none are. `onFetched` hears how each attempt ended.
 */
export function createProviderKeys(
  settings: IdentityProvidersConfig,
  onFetched: (provider: IdentityProviderRow, error: string) => void,
): ProviderKeys {
  const known = new LRUCache<string, { tenantId: string; resolve: JWTVerifyGetKey }>({ max: maxProviders });

  function remote(provider: IdentityProviderRow, uri: string): JWTVerifyGetKey {
    let last: { body: string; atMs: number } | undefined;
    let failed: { error: unknown; atMs: number } | undefined;
    const rules = {
      allowPrivate: settings.allowPrivateIssuers,
      maxBytes: maxDocumentBytes,
      timeoutMs: fetchTimeoutMs,
    };
    const fetchOrReuse = async (): Promise<string> => {
      const now = Date.now();
      if (failed && now - failed.atMs < settings.jwksCooldownMs && !last) throw failed.error;
      try {
        const body = await fetchDocument(uri, rules);
        JSON.parse(body);
        last = { body, atMs: now };
        failed = undefined;
        onFetched(provider, "");
        return body;
      } catch (error) {
        failed = { error, atMs: now };
        onFetched(provider, error instanceof Error ? error.message : String(error));
        if (last && now - last.atMs < staleMs) return last.body;
        throw error;
      }
    };
    return createRemoteJWKSet(new URL(uri), {
      cacheMaxAge: settings.jwksCacheMs,
      cooldownDuration: settings.jwksCooldownMs,
      timeoutDuration: fetchTimeoutMs + 1_000,
      [customFetch]: async () => new Response(await fetchOrReuse()),
    });
  }

  return {
    of(provider) {
      let found = known.get(provider.id);
      if (!found) {
        const resolve = provider.jwks_uri
          ? remote(provider, provider.jwks_uri)
          : createLocalJWKSet(JSON.parse(provider.jwks_json ?? "{}") as JSONWebKeySet);
        found = { tenantId: provider.tenant_id, resolve };
        known.set(provider.id, found);
      }
      return found.resolve;
    },
    forgetTenant(tenantId) {
      for (const [id, provider] of known.entries()) if (provider.tenantId === tenantId) known.delete(id);
    },
  };
}
