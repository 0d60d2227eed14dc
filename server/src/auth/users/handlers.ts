import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { type Caller, callerOf } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { newResourceId } from "../ids.ts";
import { keyChange, keysChannel } from "../keys/changes.ts";
import { revokeKeysOf } from "../keys/store.ts";
import { reachedTenant } from "../platform.ts";
import { deleteSessions } from "../sessions/store.ts";
import { requireRoom } from "../tenants/room.ts";
import { getTenant, lockTenant, type TenantRow } from "../tenants/store.ts";
import { requireAuthority } from "./authority.ts";
import { auditedChanges, requireSame, roleWord, stateWord, userChanges } from "./changes.ts";
import { invitationMail } from "./invitation.ts";
import { personMessage } from "./messages.ts";
import { keepAnOwner } from "./owners.ts";
import * as store from "./store.ts";
import { makeTemporaryPassword } from "./temporary-password.ts";

const defaultPageSize = 100;

/** Invites people to a tenant, lists, changes and removes them. */
export function userHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  const { bus, config, db, knownKeys, lockout, mailer, standings } = context;

  /** The tenant, locked, and one of its users whom the caller may change. */
  const takeUser = async (
    trx: TenantTransaction,
    caller: Caller,
    tenantId: string,
    given: string,
    etag: string,
  ) => {
    const tenant = await lockTenant(trx, tenantId);
    if (!tenant) throw notFound("tenant", tenantId);
    const user = await store.getUser(trx, tenantId, given.toLowerCase());
    if (!user) throw notFound("user", given);
    await requireAuthority(trx, config, caller, tenant, user);
    requireSame(user, etag);
    return { tenant, user };
  };

  return {
    async inviteUser({ email: given, role: wanted, displayName, sendEmail, tenantId: tenantGiven }, call) {
      const caller = callerOf(call);
      const tenantId = reachedTenant(caller, tenantGiven);
      if (sendEmail && !mailer) throw noMailServer();
      const email = given.toLowerCase();
      const role = roleWord[wanted as keyof typeof roleWord];
      const temporary = sendEmail ? undefined : await makeTemporaryPassword();
      const { tenant, user } = await withTenant(db, tenantId, async (trx) => {
        const tenant = await requireRoom(trx, tenantId, "users", config.tenants.limits);
        await requireAuthority(trx, config, caller, tenant, { email, role });
        if (await store.findUserByEmail(trx, tenantId, email)) throw addressTaken(email);
        const user = await store.insertUser(trx, {
          tenant_id: tenantId,
          id: newResourceId(),
          email,
          display_name: displayName,
          role,
          state: "INVITED",
          ...temporary?.columns,
        });
        await enterAudit(trx, tenantId, call, { resourceId: user.id });
        return { tenant, user };
      });
      if (sendEmail) void mailer?.send(invitationMail(user, tenant));
      return {
        user: personMessage(config, user, tenant.slug),
        temporaryPassword: temporary?.password ?? "",
        ...(temporary && { temporaryPasswordExpiresAt: timestampFromDate(temporary.expiresAt) }),
      };
    },

    async listUsers({ role, state, emailContains, pageSize, pageToken, tenantId: tenantGiven }, call) {
      const tenantId = reachedTenant(callerOf(call), tenantGiven);
      const query = {
        role: role ? roleWord[role] : undefined,
        state: state ? stateWord[state] : undefined,
        emailContains,
      };
      const identity = `users ${tenantId} ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["text"]) : [];
      const limit = pageSize || defaultPageSize;
      const { tenant, rows } = await withTenant(db, tenantId, async (trx) => ({
        tenant: requireTenant(await getTenant(trx, tenantId), tenantId),
        rows: await store.listUsers(trx, tenantId, query, limit + 1, after),
      }));
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.email]);
      const locks =
        page.length > 0
          ? await lockout.lockedUntil(
              tenant.slug,
              page.map((row) => row.email),
            )
          : undefined;
      return {
        users: page.map((row) => personMessage(config, row, tenant.slug, locks?.get(row.email))),
        nextPageToken,
      };
    },

    async updateUser(request, call) {
      const caller = callerOf(call);
      const tenantId = reachedTenant(caller, request.tenantId);
      const changes = userChanges(request);
      const { tenant, before, after } = await withTenant(db, tenantId, async (trx) => {
        const { tenant, user } = await takeUser(trx, caller, tenantId, request.userId, request.etag);
        const next = { role: changes.role ?? user.role, state: changes.state ?? user.state };
        await requireAuthority(trx, config, caller, tenant, { email: user.email, role: next.role });
        await keepAnOwner(trx, user, next);
        const after = await store.updateUser(trx, user, changes);
        if (after.state === "DISABLED") await deleteSessions(trx, tenantId, { userId: user.id });
        await enterAudit(trx, tenantId, call, {
          resourceId: user.id,
          details: auditedChanges(user, after),
        });
        return { tenant, before: user, after };
      });
      if (before.role !== after.role || before.state !== after.state) {
        await standings.changed({ tenantId, userId: after.id });
      }
      return { user: personMessage(config, after, tenant.slug) };
    },

    async removeUser({ userId: given, revokeApiKeys, etag, tenantId: tenantGiven }, call) {
      const caller = callerOf(call);
      const tenantId = reachedTenant(caller, tenantGiven);
      const { user, sessionsEnded, revoked } = await withTenant(db, tenantId, async (trx) => {
        const { user } = await takeUser(trx, caller, tenantId, given, etag);
        await keepAnOwner(trx, user, undefined);
        const revoked = revokeApiKeys ? await revokeKeysOf(trx, tenantId, user.id) : [];
        const sessionsEnded = await deleteSessions(trx, tenantId, { userId: user.id });
        await store.deleteUser(trx, user);
        await enterAudit(trx, tenantId, call, {
          resourceId: user.id,
          details: { email: { old: user.email }, role: { old: user.role } },
        });
        return { user, sessionsEnded, revoked };
      });
      await standings.changed({ tenantId, userId: user.id });
      for (const id of revoked) knownKeys.forget(id);
      await Promise.all(revoked.map((id) => bus.publish(keysChannel, keyChange(id))));
      return { sessionsEnded, apiKeysRevoked: revoked.length };
    },
  };
}

function requireTenant(tenant: TenantRow | undefined, tenantId: string): TenantRow {
  if (!tenant) throw notFound("tenant", tenantId);
  return tenant;
}

function addressTaken(email: string) {
  return failure(ErrorReason.ALREADY_EXISTS, `email: '${email}' is a user of this tenant already`, {
    metadata: { resource: "user", field: "email" },
    violations: [{ field: "email", description: "is a user of this tenant already", rule: "unique" }],
  });
}

function noMailServer() {
  return failure(
    ErrorReason.NOT_CONFIGURED,
    "send_email: this server sends no e-mail; leave it out and hand over the temporary password",
    { metadata: { setting: "PULSEWIRE_SMTP_URL" } },
  );
}
