import { create, toJsonString } from "@bufbuild/protobuf";
import { ConnectError, type ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import type { Role as StoredRole } from "../../db/schema/auth.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import {
  ClaimMappingSchema,
  type CreateIdentityProviderRequest,
} from "../../gen/pulsewire/auth/v1/identity_provider_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { type Caller, callerOf } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { newResourceId } from "../ids.ts";
import { isAbove, rolesByRank, storedRole } from "../roles.ts";
import { getTenant, lockTenant, type TenantRow } from "../tenants/store.ts";
import { requireAuthority } from "../users/authority.ts";
import { findKeys, requireIssuer } from "./discover.ts";
import { identityProvidersChannel } from "./known-providers.ts";
import { identityProviderMessage } from "./messages.ts";
import {
  allIdentityProviders,
  deleteIdentityProvider,
  insertIdentityProvider,
  listIdentityProviders,
} from "./store.ts";

const defaultAlgorithms = ["RS256", "PS256", "ES256", "EdDSA"];
const defaultPageSize = 100;
/** Identity providers of one tenant. */
const maxProviders = 50;

/** Manages the outside issuers that a tenant trusts. */
export function identityProviderHandlers({
  db,
  bus,
  config,
  logger,
}: Context): Partial<ServiceImpl<typeof AuthService>> {
  const tell = (tenantId: string) =>
    bus.publish(identityProvidersChannel, JSON.stringify({ tenantId })).catch((err: unknown) => {
      logger.error({ err, tenantId }, "other processes could not be told of a changed identity provider");
    });

  async function reachOf(trx: TenantTransaction, caller: Caller, request: CreateIdentityProviderRequest) {
    const tenant = await getTenant(trx, caller.tenantId);
    if (!tenant) throw notFound("tenant", caller.tenantId);
    const mayGive = (role: StoredRole) => requireAuthority(trx, config, caller, tenant, { email: "", role });
    for (const role of [...Object.values(request.claimMapping?.roles ?? {}), request.defaultRole]) {
      const stored = storedRole(role);
      if (stored) await mayGive(stored);
    }
    const highest = await highestGiven(mayGive);
    const given = storedRole(request.defaultRole) ?? (isAbove("MEMBER", highest) ? highest : "MEMBER");
    if (given === "OWNER") throw new TypeError("the contract refuses OWNER as default_role");
    return { highest_role: highest, default_role: given };
  }

  return {
    async createIdentityProvider(request, context) {
      const caller = callerOf(context);
      const { tenantId } = caller;
      const algorithms = request.algorithms.length > 0 ? request.algorithms : defaultAlgorithms;
      requireIssuer(config.auth.identityProviders, config.auth.issuer, request.issuer);
      const roles = await withTenant(db, tenantId, (trx) => reachOf(trx, caller, request));
      const keys = await findKeys(config.auth.identityProviders, request.issuer, request.keys, algorithms);
      const row = await withTenant(db, tenantId, async (trx) => {
        const tenant = await lockTenant(trx, tenantId);
        await requireNew(trx, tenant, request);
        const made = await insertIdentityProvider(trx, {
          ...roles,
          tenant_id: tenantId,
          id: newResourceId(),
          name: request.name,
          issuer: request.issuer,
          audiences: request.audiences,
          allowed_email_domains: [...new Set(request.allowedEmailDomains.map((name) => name.toLowerCase()))],
          claim_mapping: toJsonString(ClaimMappingSchema, request.claimMapping ?? create(ClaimMappingSchema)),
          algorithms,
          create_users: request.createUsers,
          ...("jwksUri" in keys
            ? { jwks_uri: keys.jwksUri, keys_fetched_at: new Date() }
            : { jwks_json: keys.jwksJson }),
        });
        await enterAudit(trx, tenantId, context, { resourceId: made.id });
        return made;
      });
      await tell(tenantId);
      return { identityProvider: identityProviderMessage(row) };
    },

    async listIdentityProviders({ pageSize, pageToken }, context) {
      const { tenantId } = callerOf(context);
      const query = `identity-providers ${tenantId}`;
      const [after] = pageToken ? decodeCursor(pageToken, query, ["text"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        listIdentityProviders(trx, tenantId, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, query, (row) => [row.name]);
      return {
        identityProviders: page.map(identityProviderMessage),
        nextPageToken,
      };
    },

    async deleteIdentityProvider({ identityProviderId: id }, context) {
      const { tenantId } = callerOf(context);
      await withTenant(db, tenantId, async (trx) => {
        if (!(await deleteIdentityProvider(trx, tenantId, id))) throw notFound("identity_provider", id);
        await enterAudit(trx, tenantId, context, { resourceId: id });
      });
      await tell(tenantId);
      return {};
    },
  };
}

/** The highest role that somebody may give. Throws INSUFFICIENT_ROLE where it is none. */
async function highestGiven(mayGive: (role: StoredRole) => Promise<void>): Promise<StoredRole> {
  let refused: unknown;
  for (const role of rolesByRank.toReversed()) {
    try {
      await mayGive(role);
      return role;
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      refused = error;
    }
  }
  throw refused;
}

/** The tenant is locked, so that two calls do not both find room or a free name. */
async function requireNew(
  trx: TenantTransaction,
  tenant: TenantRow | undefined,
  { name, issuer, audiences }: CreateIdentityProviderRequest,
): Promise<void> {
  if (!tenant) throw notFound("tenant", "");
  const providers = await allIdentityProviders(trx, tenant.id);
  if (providers.some((provider) => provider.name === name)) {
    throw taken("name", `the name '${name}' is taken; choose another`);
  }
  const trusted = providers.find(
    (provider) => provider.issuer === issuer && provider.audiences.some((one) => audiences.includes(one)),
  );
  if (trusted) {
    throw taken("audiences", `'${trusted.name}' trusts this issuer and audience already; delete it first`);
  }
  if (providers.length >= maxProviders) {
    throw failure(
      ErrorReason.TENANT_LIMIT,
      `a tenant may have ${maxProviders} identity providers; delete one first`,
      { metadata: { limit: "identity_providers" } },
    );
  }
}

function taken(field: string, message: string) {
  return failure(ErrorReason.ALREADY_EXISTS, message, {
    metadata: { resource: "identity_provider", field },
    violations: [{ field, description: "is taken", rule: "unique" }],
  });
}
