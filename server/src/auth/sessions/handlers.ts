import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { withLookup, withTenant } from "../../db/tenant.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { type Caller, callerOf } from "../../rpc/caller.ts";
import { failure, invalidField, notFound } from "../../rpc/errors.ts";
import { apiKeyMessage } from "../keys/messages.ts";
import { getApiKey } from "../keys/store.ts";
import { hashPassword, verifyPassword } from "../passwords.ts";
import { tenantMessage } from "../tenants/messages.ts";
import { findTenantBySlug, getTenant } from "../tenants/store.ts";
import { userMessage } from "../users/messages.ts";
import { findUserByEmail, getUser, setPassword, type UserRow } from "../users/store.ts";

/** Signs people in and tells callers who they are. */
export function sessionHandlers({ db, tokens }: Context): Partial<ServiceImpl<typeof AuthService>> {
  const accessToken = async (user: UserRow) => ({
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
    async login({ email, password, tenantSlug }) {
      const tenant = await withLookup(db, { tenantSlug }, (trx) => findTenantBySlug(trx, tenantSlug));
      const user =
        tenant && (await withTenant(db, tenant.id, (trx) => findUserByEmail(trx, tenant.id, email)));
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
      const user = await withTenant(db, tenantId, (trx) => getUser(trx, tenantId, userId));
      if (!user || !(await verifyPassword(currentPassword, user.password_hash))) {
        throw failure(ErrorReason.INVALID_LOGIN, "current_password is wrong");
      }
      if (newPassword === currentPassword) {
        throw invalidField("new_password", "must differ from the current one", "password.same");
      }
      const passwordHash = await hashPassword(newPassword);
      await withTenant(db, tenantId, (trx) => setPassword(trx, tenantId, userId, passwordHash));
      return await accessToken({ ...user, must_change_password: false });
    },

    async getMe(_request, context) {
      const caller = callerOf(context);
      const { tenantId, userId, apiKeyId } = caller;
      return await withTenant(db, tenantId, async (trx) => {
        const tenant = await getTenant(trx, tenantId);
        const key = apiKeyId ? await getApiKey(trx, tenantId, apiKeyId) : undefined;
        const user = !apiKeyId && userId ? await getUser(trx, tenantId, userId) : undefined;
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
  };
}

function requireUser(caller: Caller): { tenantId: string; userId: string } {
  if (caller.kind === "user" && caller.userId) return { tenantId: caller.tenantId, userId: caller.userId };
  throw failure(ErrorReason.MISSING_SCOPE, "only a person may call this; log in and send the token");
}
