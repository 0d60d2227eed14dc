import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import { withPlatform, withTenant } from "../../db/tenant.ts";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { TenantState } from "../../gen/pulsewire/auth/v1/tenant_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { callerOf } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { etagOf } from "../ids.ts";
import { isReservedSlug, reachedTenant } from "../platform.ts";
import { personMessage } from "../users/messages.ts";
import { limitsInForce, limitsMessage, limitsToStore } from "./limits-in-force.ts";
import { tenantMessage } from "./messages.ts";
import { type RegisteredTenant, registerTenant, slugTaken } from "./register.ts";
import { tenantsChannel } from "./settings.ts";
import { createTenantCounter } from "./stats.ts";
import { getTenant, listTenants, lockTenant, updateTenant } from "./store.ts";
import { auditedChanges, refuseOwnSuspension, tenantChanges } from "./update.ts";

const defaultPageSize = 100;

/** Makes tenants, shows them, limits and closes them. */
export function tenantHandlers(context: Context): Partial<ServiceImpl<typeof AuthService>> {
  const { bus, config, db } = context;
  const count = createTenantCounter(context);
  const registration = ({ tenant, owner, temporaryPassword, expiresAt }: RegisteredTenant) => ({
    tenant: tenantMessage(tenant),
    owner: personMessage(config, owner, tenant.slug),
    temporaryPassword,
    temporaryPasswordExpiresAt: timestampFromDate(expiresAt),
  });

  return {
    async registerTenant({ name, slug, contactEmail }, call) {
      if (!config.tenants.registrationOpen) {
        throw failure(
          ErrorReason.DISABLED,
          "registration is closed on this server; ask its operator for a tenant",
          { metadata: { setting: "PULSEWIRE_REGISTRATION" } },
        );
      }
      if (isReservedSlug(config, slug)) throw slugTaken(slug);
      const registered = await registerTenant(db, { name, slug, contactEmail }, (trx, { id }) =>
        enterAudit(trx, id, call, { resourceId: id }),
      );
      return registration(registered);
    },

    async createTenant({ name, slug, contactEmail, ownerEmail, limits }, call) {
      const registered = await registerTenant(
        db,
        {
          name,
          slug,
          contactEmail,
          ownerEmail: ownerEmail || contactEmail,
          ownerState: "INVITED",
          ...(limits && { limits: limitsToStore(limits) }),
        },
        (trx, { id }) => enterAudit(trx, id, call, { resourceId: id }),
      );
      return registration(registered);
    },

    async getTenant({ tenantId: given }, call) {
      const tenantId = reachedTenant(callerOf(call), given);
      const row = await withTenant(db, tenantId, (trx) => getTenant(trx, tenantId));
      if (!row) throw notFound("tenant", given);
      return { tenant: tenantMessage(row) };
    },

    async listTenants({ nameContains, state, pageSize, pageToken }) {
      const query = { nameContains, state: state ? stateWords[state] : undefined };
      const identity = `tenants ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["text"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withPlatform(db, (trx) => listTenants(trx, query, limit + 1, after));
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.slug]);
      return {
        tenants: page.map(tenantMessage),
        nextPageToken,
      };
    },

    async updateTenant(request, call) {
      const caller = callerOf(call);
      const tenantId = reachedTenant(caller, request.tenantId);
      const changesTo = tenantChanges(request, caller);
      const row = await withTenant(db, tenantId, async (trx) => {
        const before = await lockTenant(trx, tenantId);
        if (!before) throw notFound("tenant", request.tenantId);
        if (request.etag && request.etag !== etagOf(before.updated_at)) throw etagMismatch("tenant");
        const changes = changesTo(before);
        refuseOwnSuspension(caller, tenantId, changes);
        const after = await updateTenant(trx, tenantId, changes);
        await enterAudit(trx, tenantId, call, {
          resourceId: tenantId,
          details: auditedChanges(before, after),
        });
        return after;
      });
      await bus.publish(tenantsChannel, JSON.stringify({ tenantId }));
      return { tenant: tenantMessage(row) };
    },

    async getTenantStats({ tenantId: given }, call) {
      const tenantId = reachedTenant(callerOf(call), given);
      const row = await withTenant(db, tenantId, (trx) => getTenant(trx, tenantId));
      if (!row) throw notFound("tenant", given);
      const { countedAt, lastReceivedAt, ...counts } = await count(tenantId);
      return {
        stats: {
          tenantId,
          ...counts,
          countedAt: timestampFromDate(countedAt),
          limits: limitsMessage(limitsInForce(row, config.tenants.limits)),
          ...(lastReceivedAt && { lastReceivedAt: timestampFromDate(lastReceivedAt) }),
        },
      };
    },
  };
}

const stateWords = { [TenantState.ACTIVE]: "ACTIVE", [TenantState.SUSPENDED]: "SUSPENDED" } as const;

/** The error for a change of what has changed since its etag was read. */
export function etagMismatch(resource: string) {
  return failure(
    ErrorReason.ETAG_MISMATCH,
    `etag: the ${resource} has changed since; read it again and repeat the change`,
    { metadata: { resource } },
  );
}
