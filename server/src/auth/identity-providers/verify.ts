import {
  decodeJwt,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
} from "jose";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../../rpc/errors.ts";
import type { IdentityProviderRow } from "./store.ts";

const clockToleranceSeconds = 5;
/** What a token may call itself: nothing, a JWT, or an access token (RFC 9068). So no logout token is a credential. */
const types: ReadonlySet<string | undefined> = new Set([undefined, "JWT", "AT+JWT", "APPLICATION/AT+JWT"]);
/** Keys that are tried where a token names none of several. */
const maxTriedKeys = 10;

/** The issuer that a token says it is from, unproven; undefined where it says none. */
export function claimedIssuer(token: string): string | undefined {
  try {
    const { iss } = decodeJwt(token);
    return typeof iss === "string" ? iss : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a provider could have issued a token, by what the token says of itself. */
export function couldBeOf({ issuer, audiences }: IdentityProviderRow, token: string): boolean {
  const { iss, aud } = decodeJwt(token);
  return iss === issuer && [aud].flat().some((one) => one !== undefined && audiences.includes(one));
}

/**
 * Checks signature, algorithm, issuer, audience, times and type of a provider's token. Throws INVALID_TOKEN, or
 * DEPENDENCY_UNAVAILABLE when the keys could not be fetched.
 */
export async function verifyExternal(
  token: string,
  provider: IdentityProviderRow,
  keys: JWTVerifyGetKey,
): Promise<JWTPayload> {
  const options: JWTVerifyOptions = {
    algorithms: provider.algorithms,
    issuer: provider.issuer,
    audience: provider.audiences,
    clockTolerance: clockToleranceSeconds,
    requiredClaims: ["exp"],
  };
  try {
    const { payload, protectedHeader } = await verifyWithAny(token, keys, options);
    if (types.has(protectedHeader.typ?.toUpperCase())) return payload;
  } catch (cause) {
    if (cause instanceof errors.JOSEError && !isOutage(cause)) throw invalidToken(explain(cause), cause);
    throw failure(
      ErrorReason.DEPENDENCY_UNAVAILABLE,
      "the keys of the token's issuer cannot be fetched right now; call again",
      { metadata: { dependency: "identity provider" }, retryAfterMs: 5_000, cause },
    );
  }
  throw invalidToken("it is of a type that is no credential");
}

/** Where the token names no key and several fit, each is tried. */
async function verifyWithAny(token: string, keys: JWTVerifyGetKey, options: JWTVerifyOptions) {
  try {
    return await jwtVerify(token, keys, options);
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    let tried = 0;
    for await (const key of error) {
      if (++tried > maxTriedKeys) break;
      try {
        return await jwtVerify(token, key, options);
      } catch (failed) {
        if (!(failed instanceof errors.JWSSignatureVerificationFailed)) throw failed;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

function isOutage({ code }: errors.JOSEError): boolean {
  return code === "ERR_JWKS_TIMEOUT" || code === "ERR_JOSE_GENERIC" || code === "ERR_JWKS_INVALID";
}

function explain({ code }: errors.JOSEError): string {
  if (code === "ERR_JWT_EXPIRED") return "it has expired";
  if (code === "ERR_JWS_INVALID" || code === "ERR_JWT_INVALID") return "it is malformed";
  return "its signature, issuer, audience, algorithm or times are not what the tenant trusts";
}

/** The error for a token of an identity provider; says why, and nothing of what else would be accepted. */
export function invalidToken(why: string, cause?: unknown) {
  return failure(ErrorReason.INVALID_TOKEN, `the token of the identity provider is not valid (${why})`, {
    cause,
  });
}
