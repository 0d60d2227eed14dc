import type { IdentityProvidersConfig } from "../../config/auth.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { OutboundForbidden } from "../../net/allowed.ts";
import { fetchDocument, OutboundFailed } from "../../net/outbound.ts";
import { failure, invalidField } from "../../rpc/errors.ts";
import { maxDocumentBytes, readJwks, UnusableKeys } from "./jwks.ts";
import { fetchTimeoutMs } from "./remote-keys.ts";

/** Where the caller said that the keys are. */
export type GivenKeys =
  | { readonly case: "jwksUri" | "jwksJson"; readonly value: string }
  | { readonly case?: undefined };

/** Where the keys are, tried. */
export type FoundKeys = { readonly jwksUri: string } | { readonly jwksJson: string };

/**
 * Finds an issuer's keys and tries them. Throws INVALID_FIELD when document or keys are wrong or cannot be
 * fetched, DISABLED for http and private addresses where the operator does not allow them.
 */
export async function findKeys(
  settings: IdentityProvidersConfig,
  issuer: string,
  given: GivenKeys,
  algorithms: readonly string[],
): Promise<FoundKeys> {
  if (given.case === "jwksJson") {
    await tryKeys("jwks_json", given.value, algorithms);
    return { jwksJson: given.value };
  }
  const field = given.case === "jwksUri" ? "jwks_uri" : "issuer";
  const jwksUri = given.case === "jwksUri" ? given.value : await discover(settings, issuer);
  await tryKeys(field, await fetchFor(settings, field, jwksUri), algorithms);
  return { jwksUri };
}

/** Refuses an issuer that could be no issuer here, whether or not it is asked for anything. */
export function requireIssuer(settings: IdentityProvidersConfig, ownIssuer: string, issuer: string): void {
  const { protocol, username, password, search, hash } = new URL(issuer);
  if (issuer === ownIssuer) throw invalidField("issuer", "is this server's own; its tokens need no provider");
  if (username || password || search || hash) {
    throw invalidField(
      "issuer",
      "must be an address without user, query and fragment (OpenID Connect Discovery)",
    );
  }
  if (protocol !== "https:" && !settings.allowPrivateIssuers)
    throw forbidden("issuer", "it is no https address");
}

/** OpenID Connect Discovery 1.0, section 4. */
async function discover(settings: IdentityProvidersConfig, issuer: string): Promise<string> {
  const address = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const text = await fetchFor(settings, "issuer", address);
  let document: { issuer?: unknown; jwks_uri?: unknown } | null;
  try {
    document = JSON.parse(text);
  } catch {
    throw invalidField("issuer", "its discovery document is no JSON; give jwks_uri or jwks_json");
  }
  if (document?.issuer !== issuer) {
    throw invalidField(
      "issuer",
      "its discovery document names another issuer; both must be exactly the same",
    );
  }
  const uri = document.jwks_uri;
  if (typeof uri !== "string" || uri.length > 500 || !/^https?:/.test(uri) || !URL.canParse(uri)) {
    throw invalidField("issuer", "its discovery document has no jwks_uri; give jwks_uri or jwks_json");
  }
  return uri;
}

async function fetchFor(settings: IdentityProvidersConfig, field: string, address: string): Promise<string> {
  try {
    return await fetchDocument(address, {
      allowPrivate: settings.allowPrivateIssuers,
      maxBytes: maxDocumentBytes,
      timeoutMs: fetchTimeoutMs,
    });
  } catch (error) {
    if (error instanceof OutboundForbidden) throw forbidden(field, error.message);
    if (!(error instanceof OutboundFailed)) throw error;
    // The address is the caller's: nothing of ours has failed, and a wrong one gets no better by trying again.
    throw invalidField(
      field,
      `its document could not be fetched: ${error.message}; check the address, or give jwks_json`,
    );
  }
}

async function tryKeys(field: string, text: string, algorithms: readonly string[]): Promise<void> {
  try {
    await readJwks(text, algorithms);
  } catch (error) {
    if (error instanceof UnusableKeys) throw invalidField(field, `its JWK Set ${error.message}`);
    throw error;
  }
}

function forbidden(field: string, why: string) {
  return failure(
    ErrorReason.DISABLED,
    `${field}: ${why}; the operator may allow it with PULSEWIRE_ALLOW_PRIVATE_ISSUERS=on`,
    {
      metadata: { setting: "PULSEWIRE_ALLOW_PRIVATE_ISSUERS" },
      violations: [{ field, description: why, rule: "forbidden" }],
    },
  );
}
