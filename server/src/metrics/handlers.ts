import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { newResourceId } from "../auth/ids.ts";
import { reachedTenant } from "../auth/platform.ts";
import { requireRoom } from "../auth/tenants/room.ts";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import { withTenant } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { MetricsService } from "../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { enterAudit } from "../rpc/audit.ts";
import { type Caller, callerOf } from "../rpc/caller.ts";
import { failure, notFound } from "../rpc/errors.ts";
import { answerQuery } from "./answer-query.ts";
import { answerWrite } from "./answer-write.ts";
import { defaultExpectedIntervalMs, seriesMessage, storeMessage } from "./messages.ts";
import * as store from "./store.ts";
import { usageHandlers } from "./usage/handlers.ts";

const defaultPageSize = 100;

/** MetricsService as far as it is built; other methods answer UNIMPLEMENTED. */
export function metricsHandlers(context: Context): Partial<ServiceImpl<typeof MetricsService>> {
  const { config, db, samples } = context;
  return {
    ...usageHandlers(context),

    writeSamples: (request, context) => answerWrite(samples, config.limits, callerOf(context), request),

    async querySamples(request, context) {
      const caller = callerOf(context);
      requireStoreAccess(caller, request.storeId);
      return await withTenant(db, caller.tenantId, (trx) => answerQuery(trx, caller, request));
    },

    async listSeries({ pageSize, pageToken, storeId, name, nameContains, labels }, context) {
      const caller = callerOf(context);
      requireStoreAccess(caller, storeId);
      const query = { storeId, name, nameContains, labels };
      const identity = `series ${caller.tenantId} ${JSON.stringify(query)}`;
      const after = pageToken ? decodeCursor(pageToken, identity, ["text", "uuid", "uuid"]) : undefined;
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, caller.tenantId, (trx) =>
        store.listSeries(trx, caller.tenantId, query, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [
        row.name,
        row.store_id,
        row.id,
      ]);
      return {
        series: page.map(seriesMessage),
        nextPageToken,
      };
    },

    async createStore({ name, description, expectedInterval, labels, tenantId: given }, context) {
      const tenantId = reachedTenant(callerOf(context), given);
      try {
        const row = await withTenant(db, tenantId, async (trx) => {
          await requireRoom(trx, tenantId, "stores", config.tenantLimits);
          const made = await store.insertStore(trx, {
            tenant_id: tenantId,
            id: newResourceId(),
            name,
            description,
            expected_interval_ms: BigInt(
              expectedInterval ? durationMs(expectedInterval) : defaultExpectedIntervalMs,
            ),
            labels: JSON.stringify(labels),
          });
          await enterAudit(trx, tenantId, context, { resourceId: made.id });
          return made;
        });
        return { store: storeMessage(row) };
      } catch (error) {
        if (classifyDatabaseError(error)?.kind !== "conflict") throw error;
        throw failure(ErrorReason.ALREADY_EXISTS, `there is a store named '${name}' already`, {
          metadata: { resource: "store", field: "name" },
        });
      }
    },

    async getStore({ storeId }, context) {
      const caller = callerOf(context);
      requireStoreAccess(caller, storeId);
      const row = await withTenant(db, caller.tenantId, (trx) =>
        store.getStore(trx, caller.tenantId, storeId),
      );
      if (!row) throw notFound("store", storeId);
      return { store: storeMessage(row) };
    },

    async listStores({ pageSize, pageToken, nameContains, state }, context) {
      const { tenantId, storeIds } = callerOf(context);
      if (state) {
        throw failure(ErrorReason.NOT_IMPLEMENTED, "stores cannot be filtered by state on this server yet");
      }
      const identity = `stores ${tenantId} ${nameContains}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["text"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        store.listStores(trx, tenantId, nameContains, storeIds, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.name]);
      return {
        stores: page.map(storeMessage),
        nextPageToken,
      };
    },
  };
}

/** A key that is bound to stores may ask for these only. */
function requireStoreAccess({ storeIds }: Caller, storeId: string): void {
  if (storeIds.length === 0 || storeIds.includes(storeId)) return;
  throw failure(
    ErrorReason.KEY_RESTRICTED,
    "this API key is bound to other stores; name one of its own in store_id",
    {
      metadata: { restriction: "store" },
    },
  );
}
