import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import { type TenantTransaction, withLookup, withTenant } from "../db/tenant.ts";
import type { CreateApiKeyRequest } from "../gen/pulsewire/auth/v1/api_key_pb.js";
import type { AuthService } from "../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../gen/pulsewire/options/v1/access_pb.js";
import { existingStores } from "../metrics/store.ts";
import { type Caller, callerOf, passwordChangeRequired } from "../rpc/caller.ts";
import { failure, invalidField, notFound } from "../rpc/errors.ts";
import { apiKeyPrefix, hashApiKey, newApiKey } from "./api-keys.ts";
import { apiKeyMessage, tenantMessage, userMessage } from "./messages.ts";
import { hashPassword, verifyPassword } from "./passwords.ts";
import { gatewayScopes } from "./roles.ts";
import * as store from "./store.ts";
import { registerTenant } from "./tenants.ts";

/** AuthService as far as it is built; other methods answer UNIMPLEMENTED. */
export function authHandlers({ config, db, tokens }: Context): Partial<ServiceImpl<typeof AuthService>> {
  const accessToken = async (user: store.UserRow) => ({
    accessToken: await tokens.issue({
      userId: user.id,
      tenantId: user.tenant_id,
      role: user.role,
      mustChangePassword: user.must_change_password,
    }),
    tokenType: "Bearer",
    expiresIn: tokens.ttlSeconds,
  });

  return {
    async registerTenant({ name, slug, contactEmail }) {
      if (!config.registrationOpen) {
        throw failure(
          ErrorReason.DISABLED,
          "registration is closed on this server; ask its operator for a tenant",
          {
            metadata: { setting: "PULSEWIRE_REGISTRATION" },
          },
        );
      }
      const registered = await registerTenant(db, { name, slug, contactEmail });
      return {
        tenant: tenantMessage(registered.tenant),
        owner: userMessage(registered.owner),
        temporaryPassword: registered.temporaryPassword,
        temporaryPasswordExpiresAt: timestampFromDate(registered.expiresAt),
      };
    },

    async login({ email, password, tenantSlug }) {
      const tenant = await withLookup(db, { tenantSlug }, (trx) => store.findTenantBySlug(trx, tenantSlug));
      const user =
        tenant && (await withTenant(db, tenant.id, (trx) => store.findUserByEmail(trx, tenant.id, email)));
      const right = await verifyPassword(password, user?.password_hash);
      const expiresAt = user?.temporary_password_expires_at;
      if (!tenant || !user || !right || (expiresAt && expiresAt.getTime() <= Date.now())) {
        throw failure(
          ErrorReason.INVALID_LOGIN,
          "e-mail address, password or tenant slug is wrong, or the temporary password has expired",
        );
      }
      return {
        ...(await accessToken(user)),
        mustChangePassword: user.must_change_password,
        user: userMessage(user),
        tenant: tenantMessage(tenant),
      };
    },

    async changePassword({ currentPassword, newPassword }, context) {
      const { tenantId, userId } = requireUser(callerOf(context));
      const user = await withTenant(db, tenantId, (trx) => store.getUser(trx, tenantId, userId));
      if (!user || !(await verifyPassword(currentPassword, user.password_hash))) {
        throw failure(ErrorReason.INVALID_LOGIN, "current_password is wrong");
      }
      if (newPassword === currentPassword) {
        throw invalidField("new_password", "must differ from the current one", "password.same");
      }
      const passwordHash = await hashPassword(newPassword);
      await withTenant(db, tenantId, (trx) => store.setPassword(trx, tenantId, userId, passwordHash));
      return await accessToken({ ...user, must_change_password: false });
    },

    async getMe(_request, context) {
      const caller = callerOf(context);
      const { tenantId, userId, apiKeyId } = caller;
      return await withTenant(db, tenantId, async (trx) => {
        const tenant = await store.getTenant(trx, tenantId);
        const key = apiKeyId ? await store.getApiKey(trx, tenantId, apiKeyId) : undefined;
        const user = !apiKeyId && userId ? await store.getUser(trx, tenantId, userId) : undefined;
        if (!tenant || (!key && !user)) throw notFound("user", userId ?? apiKeyId ?? "");
        return {
          tenant: tenantMessage(tenant),
          scopes: [...caller.scopes],
          principal: key
            ? { case: "apiKey" as const, value: apiKeyMessage(key) }
            : user
              ? { case: "user" as const, value: userMessage(user) }
              : { case: undefined },
        };
      });
    },

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
        return await store.insertApiKey(trx, {
          tenant_id: tenantId,
          id: store.newResourceId(),
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

function requireUser(caller: Caller): { tenantId: string; userId: string } {
  if (caller.kind === "user" && caller.userId) return { tenantId: caller.tenantId, userId: caller.userId };
  throw failure(ErrorReason.MISSING_SCOPE, "only a person may call this; log in and send the token");
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
