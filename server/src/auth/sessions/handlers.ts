import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import { enterAudit, noteAudit } from "../../rpc/audit.ts";
import { type Caller, callerOf, tenantSuspended } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { apiKeyMessage } from "../keys/messages.ts";
import { getApiKey } from "../keys/store.ts";
import { proveLogin } from "../passwords/login.ts";
import { publicTenantMessage, tenantMessage } from "../tenants/messages.ts";
import { getTenant } from "../tenants/store.ts";
import { personMessage } from "../users/messages.ts";
import { getUser } from "../users/store.ts";
import { openSession, signInFacts, tokenPair } from "./open.ts";
import { refreshSession } from "./refresh.ts";
import { deleteSessions } from "./store.ts";

/** Signs people in and out and tells callers who they are. */
export function sessionHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  const { db, tokens, config, standings, lockout } = context;
  return {
    async login({ email, password, tenantSlug }, call) {
      const proven = await proveLogin(context, { email, tenantSlug }, password);
      if (!proven) throw invalidLogin();
      const { tenant } = proven;
      if (tenant.state === "SUSPENDED") throw tenantSuspended();
      const opened = await withTenant(db, tenant.id, async (trx) => {
        const opened = await openSession(trx, proven.user, {
          restricted: proven.user.must_change_password,
          ttlSeconds: config.auth.refreshTokenTtlSeconds,
        });
        if (!opened) throw invalidLogin();
        await enterAudit(trx, tenant.id, call, signInFacts(opened));
        return opened;
      });
      return {
        ...(await tokenPair(tokens, config.auth, opened)),
        mustChangePassword: opened.user.must_change_password,
        user: personMessage(config, opened.user, tenant.slug),
        tenant: tenantMessage(tenant),
      };
    },

    async refreshToken({ refreshToken }, call) {
      const { opened, mustChangePassword } = await refreshSession(
        context,
        refreshToken,
        ({ tenant_id, id }) => noteAudit(call, { tenantId: tenant_id, sessionId: id, resourceId: id }),
      );
      return { ...(await tokenPair(tokens, config.auth, opened)), mustChangePassword };
    },

    async logout({ everywhere }, call) {
      const { tenantId, userId, sessionId } = requireSession(callerOf(call));
      const which = everywhere ? { userId } : { sessionId };
      const sessionsEnded = await withTenant(db, tenantId, async (trx) => {
        const sessionsEnded = await deleteSessions(trx, tenantId, which);
        await enterAudit(trx, tenantId, call, { resourceId: sessionId });
        return sessionsEnded;
      });
      await standings.changed({ tenantId, ...which });
      return { sessionsEnded };
    },

    async getMe(_request, call) {
      const caller = callerOf(call);
      const { tenantId, userId, apiKeyId, sessionId = "" } = caller;
      const found = await withTenant(db, tenantId, async (trx) => ({
        tenant: await getTenant(trx, tenantId),
        key: apiKeyId ? await getApiKey(trx, tenantId, apiKeyId) : undefined,
        user: !apiKeyId && userId ? await getUser(trx, tenantId, userId) : undefined,
      }));
      const { tenant, key, user } = found;
      if (!tenant || (!key && !user)) throw notFound("user", userId ?? apiKeyId ?? "");
      const locks = user && (await lockout.lockedUntil(tenant.slug, [user.email]));
      const expiresAtMs = key ? key.expires_at?.getTime() : caller.expiresAtMs;
      return {
        tenant: caller.scopes.has(Scope.TENANT_READ) ? tenantMessage(tenant) : publicTenantMessage(tenant),
        scopes: [...caller.scopes],
        sessionId,
        ...(expiresAtMs !== undefined && { expiresAt: timestampFromMs(expiresAtMs) }),
        principal: key
          ? { case: "apiKey" as const, value: apiKeyMessage(key) }
          : user
            ? {
                case: "user" as const,
                value: personMessage(config, user, tenant.slug, locks?.get(user.email)),
              }
            : { case: undefined },
      };
    },
  };
}

/** The session of a person who is signed in here. Throws FAILED_PRECONDITION for all others. */
export function requireSession({ tenantId, userId, sessionId }: Caller) {
  if (userId && sessionId) return { tenantId, userId, sessionId };
  throw failure(
    ErrorReason.FAILED_PRECONDITION,
    "only a session of this server may call this, no API key and no token of an identity provider; log in first",
    { metadata: { resource: "session" } },
  );
}

/** The error of a sign-in by password, whatever was wrong. */
export function invalidLogin() {
  return failure(
    ErrorReason.INVALID_LOGIN,
    "e-mail address, password or tenant slug is wrong, or the temporary password has expired",
  );
}
