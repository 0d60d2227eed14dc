import type { Caller } from "../rpc/caller.ts";

/** Finds out who a caller is from what they present. */
export interface Credentials {
  /** The caller of an API key used from an address. Throws INVALID_API_KEY and KEY_RESTRICTED. No promise where it was seen lately. */
  fromApiKey(secret: string, address: string): Caller | Promise<Caller>;
  /**
   * The caller of an access token of this server, or of a token of an identity provider of the tenant that the call
   * names. Throws INVALID_TOKEN, TENANT_SUSPENDED, and for providers TENANT_LIMIT and DEPENDENCY_UNAVAILABLE.
   */
  fromToken(token: string, tenantSlug: string | undefined): Caller | Promise<Caller>;
}
