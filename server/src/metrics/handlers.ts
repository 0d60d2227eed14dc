import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { withTenant } from "../db/tenant.ts";
import type { MetricsService } from "../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { callerOf } from "../rpc/caller.ts";
import { requireStoreAccess } from "./access.ts";
import { alertingHandlers } from "./alerts/handlers.ts";
import { answerQuery } from "./answer-query.ts";
import { answerWrite } from "./answer-write.ts";
import { metricMessage, seriesMessage } from "./messages.ts";
import { statusHandlers } from "./status/handlers.ts";
import { listMetrics, listSeries } from "./store.ts";
import { storeHandlers } from "./store-handlers.ts";
import { usageHandlers } from "./usage/handlers.ts";

const defaultPageSize = 100;

/** MetricsService as far as it is built; other methods answer UNIMPLEMENTED. */
export function metricsHandlers(context: Context): Partial<ServiceImpl<typeof MetricsService>> {
  const { config, db, samples } = context;
  return {
    ...usageHandlers(context),
    ...alertingHandlers(context),
    ...statusHandlers(context),

    writeSamples: (request, call) => answerWrite(samples, config.metrics, callerOf(call), request),

    async querySamples(request, call) {
      const caller = callerOf(call);
      requireStoreAccess(caller, request.storeId);
      return await withTenant(db, caller.tenantId, (trx) => answerQuery(trx, caller, request), {
        isolationLevel: "repeatable read",
      });
    },

    async listSeries({ pageSize, pageToken, storeId, name, nameContains, labels }, call) {
      const caller = callerOf(call);
      requireStoreAccess(caller, storeId);
      const query = { storeId, name, nameContains, labels };
      const identity = `series ${caller.tenantId} ${JSON.stringify(query)}`;
      const after = pageToken ? decodeCursor(pageToken, identity, ["text", "uuid", "uuid"]) : undefined;
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, caller.tenantId, (trx) =>
        listSeries(trx, caller.tenantId, query, limit + 1, after),
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

    async listMetrics({ pageSize, pageToken, storeId, nameContains }, call) {
      const caller = callerOf(call);
      requireStoreAccess(caller, storeId);
      const query = { storeId, nameContains };
      const identity = `metrics ${caller.tenantId} ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["text"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, caller.tenantId, (trx) =>
        listMetrics(trx, caller.tenantId, query, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.name]);
      return { metrics: page.map(metricMessage), nextPageToken };
    },

    ...storeHandlers(context),
  };
}
