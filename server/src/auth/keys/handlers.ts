import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import type { CreateApiKeyRequest } from "../../gen/pulsewire/auth/v1/api_key_pb.js";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import { existingStores } from "../../metrics/store.ts";
import { type Caller, callerOf, passwordChangeRequired } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { newResourceId } from "../ids.ts";
import { gatewayScopes } from "../roles.ts";
import { apiKeyMessage } from "./messages.ts";
import { apiKeyPrefix, hashApiKey, newApiKey } from "./secret.ts";
import { insertApiKey } from "./store.ts";

/** Makes API keys. */
export function apiKeyHandlers({ db }: Context): Partial<ServiceImpl<typeof AuthService>> {
  return {
    async createApiKey(request, context) {
      const caller = callerOf(context);
      if (caller.mustChangePassword) throw passwordChangeRequired();
      const scopes = request.scopes.length > 0 ? request.scopes : gatewayScopes;
      requireScopes(caller, caller.kind === "api-key" ? [Scope.TENANT_ADMIN, ...scopes] : scopes);
      const { tenantId } = caller;
      if (request.tenantId && request.tenantId !== tenantId) throw notFound("tenant", request.tenantId);
      refuseUnenforced(request);
      const secret = newApiKey();
      const key = await withTenant(db, tenantId, async (trx) => {
        await requireStores(trx, tenantId, request.storeIds);
        return await insertApiKey(trx, {
          tenant_id: tenantId,
          id: newResourceId(),
          name: request.name,
          key_prefix: apiKeyPrefix(secret),
          key_hash: hashApiKey(secret),
          scopes: scopes.map((scope) => Scope[scope]),
          store_ids: request.storeIds,
          created_by: caller.userId ?? null,
          expires_at: request.expiresAt ? timestampDate(request.expiresAt) : null,
        });
      });
      return { apiKey: apiKeyMessage(key), secret };
    },
  };
}

function requireScopes(caller: Caller, scopes: readonly Scope[]): void {
  const missing = scopes.filter((scope) => !caller.scopes.has(scope)).map((scope) => Scope[scope]);
  if (missing.length === 0) return;
  throw failure(
    ErrorReason.MISSING_SCOPE,
    `a key may not do more than its maker, who lacks ${missing.join(", ")}`,
    {
      metadata: { method: "pulsewire.auth.v1.AuthService/CreateApiKey", scopes: missing.join(" ") },
    },
  );
}

/** A restriction that is accepted and then not enforced would be a hole. */
function refuseUnenforced(request: CreateApiKeyRequest): void {
  for (const [field, given] of [
    ["allowed_ip_ranges", request.allowedIpRanges.length > 0],
    ["requests_per_minute", request.requestsPerMinute > 0],
  ] as const) {
    if (given)
      throw failure(ErrorReason.NOT_IMPLEMENTED, `${field} is not enforced by this server yet; leave it out`);
  }
}

async function requireStores(
  trx: TenantTransaction,
  tenantId: string,
  ids: readonly string[],
): Promise<void> {
  const existing = await existingStores(trx, tenantId, ids);
  const unknown = ids.find((id) => !existing.has(id));
  if (unknown) throw notFound("store", unknown);
}
