import type { Caller } from "../rpc/caller.ts";
import type { ExternalAuthenticator } from "./identity-providers/authenticate.ts";
import { claimedIssuer } from "./identity-providers/verify.ts";
import type { TokenAuthenticator } from "./sessions/authenticate.ts";

/**
 * Sends a token to whoever can check it, by the issuer that it claims: ours, or, where it claims another address, the
 * identity providers of the tenant that the call names. A wrong claim only leads to where the token is refused.
 */
export function chooseByIssuer(
  ownIssuer: string,
  own: TokenAuthenticator,
  external: ExternalAuthenticator,
): (token: string, tenantSlug: string | undefined) => Caller | Promise<Caller> {
  return (token, tenantSlug) => {
    // First, for it costs less than to read what the token claims.
    const caller = own.recall(token);
    if (caller) return caller;
    const issuer = claimedIssuer(token);
    const outside = issuer !== undefined && issuer !== ownIssuer && /^https?:\/\//.test(issuer);
    return outside ? external.fromToken(token, tenantSlug) : own.fromToken(token);
  };
}
