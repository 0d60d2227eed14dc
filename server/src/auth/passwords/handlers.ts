import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { callerOf } from "../../rpc/caller.ts";
import { failure, invalidField, notFound } from "../../rpc/errors.ts";
import { invalidCode } from "../codes/codes.ts";
import { memberOf } from "../codes/membership.ts";
import { useCode } from "../codes/store.ts";
import { hashPassword, verifyPassword } from "../passwords.ts";
import { reachedTenant } from "../platform.ts";
import { requireSession } from "../sessions/handlers.ts";
import { continueSession, tokenPair } from "../sessions/open.ts";
import { newRefreshToken } from "../sessions/refresh-token.ts";
import { deleteSessions, lockSession } from "../sessions/store.ts";
import { getTenant, lockTenant } from "../tenants/store.ts";
import { requireAuthority } from "../users/authority.ts";
import { personMessage } from "../users/messages.ts";
import { getUser, ownPassword, setPassword } from "../users/store.ts";
import { makeTemporaryPassword } from "../users/temporary-password.ts";
import { isCommonPassword } from "./common.ts";
import { hasExpired } from "./login.ts";

/** Changes, resets and recovers passwords. */
export function passwordHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  const { db, tokens, config, standings, lockout, codes } = context;
  return {
    async changePassword({ currentPassword, newPassword }, call) {
      const { tenantId, userId, sessionId } = requireSession(callerOf(call));
      requireGoodPassword(newPassword);
      if (newPassword === currentPassword) {
        throw invalidField("new_password", "must differ from the current one", "password.same");
      }
      const { user, tenant } = await withTenant(db, tenantId, async (trx) => ({
        user: await getUser(trx, tenantId, userId),
        tenant: await getTenant(trx, tenantId),
      }));
      if (!user || !tenant) throw notFound("user", userId);
      const account = { tenantSlug: tenant.slug, email: user.email };
      const right = await lockout.guard(account, async () =>
        (await isCurrent(currentPassword, user.password_hash)) && !hasExpired(user) ? true : undefined,
      );
      if (!right) throw wrongPassword();
      const passwordHash = await hashPassword(newPassword);
      const { opened, sessionsEnded } = await withTenant(db, tenantId, async (trx) => {
        const session = await lockSession(trx, tenantId, sessionId);
        const now = await getUser(trx, tenantId, userId);
        // Another call may have changed it meanwhile.
        if (!session || now?.password_hash !== user.password_hash) throw wrongPassword();
        await setPassword(trx, user, ownPassword(passwordHash));
        const sessionsEnded = await deleteSessions(trx, tenantId, { userId, except: sessionId });
        const opened = await continueSession(trx, session, newRefreshToken(tenantId, sessionId), {
          ttlSeconds: config.auth.refreshTokenTtlSeconds,
          epoch: session.epoch + 1,
          restricted: false,
        });
        await enterAudit(trx, tenantId, call, { resourceId: userId });
        return { opened, sessionsEnded };
      });
      await standings.changed({ tenantId, userId });
      return { ...(await tokenPair(tokens, config.auth, opened)), sessionsEnded };
    },

    async resetPassword(request, call) {
      const caller = callerOf(call);
      const tenantId = reachedTenant(caller, request.tenantId);
      const userId = request.userId.toLowerCase();
      if (caller.kind === "user" && userId === caller.userId) {
        throw failure(
          ErrorReason.FAILED_PRECONDITION,
          "user_id: this is your own password; change it with AuthService.ChangePassword",
          { metadata: { resource: "user" } },
        );
      }
      const temporary = await makeTemporaryPassword();
      const { user, tenant, sessionsEnded } = await withTenant(db, tenantId, async (trx) => {
        // In line with whoever changes the user's role.
        const tenant = await lockTenant(trx, tenantId);
        if (!tenant) throw notFound("tenant", tenantId);
        const before = await getUser(trx, tenantId, userId);
        if (!before) throw notFound("user", userId);
        await requireAuthority(trx, config, caller, tenant, before);
        const user = await setPassword(trx, before, temporary.columns);
        if (!user) {
          throw failure(
            ErrorReason.FAILED_PRECONDITION,
            "user_id: the user is disabled; enable them first with AuthService.UpdateUser",
            { metadata: { resource: "user" } },
          );
        }
        const sessionsEnded = await deleteSessions(trx, tenantId, { userId });
        await enterAudit(trx, tenantId, call, { resourceId: userId });
        return { user, tenant, sessionsEnded };
      });
      await standings.changed({ tenantId, userId });
      await lockout.lift({ tenantSlug: tenant.slug, email: user.email });
      return {
        user: personMessage(config, user, tenant.slug),
        temporaryPassword: temporary.password,
        temporaryPasswordExpiresAt: timestampFromDate(temporary.expiresAt),
        sessionsEnded,
      };
    },

    async recoverPassword(request, call) {
      requireGoodPassword(request.newPassword);
      const email = request.email.toLowerCase();
      const code = await codes.check(email, "PASSWORD_RECOVERY", request.code);
      const user = await memberOf(db, request.tenantSlug, email);
      if (!user) throw invalidCode();
      const { tenant_id: tenantId, id: userId } = user;
      const passwordHash = await hashPassword(request.newPassword);
      const sessionsEnded = await withTenant(db, tenantId, async (trx) => {
        const tenant = await getTenant(trx, tenantId);
        if (tenant?.state !== "ACTIVE" || !(await useCode(trx, code))) throw invalidCode();
        if (!(await setPassword(trx, user, ownPassword(passwordHash)))) throw invalidCode();
        await trx
          .updateTable("users")
          .set({ email_verified: true })
          .where("tenant_id", "=", tenantId)
          .where("id", "=", userId)
          .execute();
        const sessionsEnded = await deleteSessions(trx, tenantId, { userId });
        await enterAudit(trx, tenantId, call, { user: { id: userId, email }, resourceId: userId });
        return sessionsEnded;
      });
      await standings.changed({ tenantId, userId });
      await lockout.lift({ tenantSlug: request.tenantSlug, email });
      return { sessionsEnded };
    },
  };
}

/** Whoever came by an e-mail code has no password until they set one. */
async function isCurrent(password: string, hash: string | null): Promise<boolean> {
  if (hash === null && password === "") return true;
  return await verifyPassword(password, hash);
}

function requireGoodPassword(password: string): void {
  if (!isCommonPassword(password)) return;
  throw invalidField(
    "new_password",
    "is one of those that are tried first; take something longer or less common, such as a few words that are yours",
    "password.common",
  );
}

function wrongPassword() {
  return failure(ErrorReason.INVALID_LOGIN, "current_password is wrong, or was temporary and has expired");
}
