import { create, fromJson } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type ClaimMapping,
  ClaimMappingSchema,
  type IdentityProvider,
  IdentityProviderSchema,
} from "../../gen/pulsewire/auth/v1/identity_provider_pb.js";
import { roleOf } from "../roles.ts";
import type { IdentityProviderRow } from "./store.ts";

export function identityProviderMessage(row: IdentityProviderRow): IdentityProvider {
  return create(IdentityProviderSchema, {
    id: row.id,
    tenantId: row.tenant_id,
    name: row.name,
    issuer: row.issuer,
    audiences: row.audiences,
    allowedEmailDomains: row.allowed_email_domains,
    claimMapping: claimMappingOf(row),
    keys:
      row.jwks_uri !== null
        ? { case: "jwksUri", value: row.jwks_uri }
        : { case: "jwksJson", value: row.jwks_json ?? "" },
    algorithms: row.algorithms,
    createUsers: row.create_users,
    defaultRole: roleOf[row.default_role],
    highestRole: roleOf[row.highest_role],
    createdAt: timestampFromDate(row.created_at),
    ...(row.keys_fetched_at && { keysFetchedAt: timestampFromDate(row.keys_fetched_at) }),
    keysError: row.keys_error,
  });
}

/** The mapping as it is stored, in ProtoJSON. */
export function claimMappingOf(row: Pick<IdentityProviderRow, "claim_mapping">): ClaimMapping {
  return fromJson(ClaimMappingSchema, row.claim_mapping, { ignoreUnknownFields: true });
}
