import { hash } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import type { IngestionService } from "../../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { callerOf } from "../../rpc/caller.ts";
import { rangeOf } from "./range.ts";
import { readIngestStats } from "./stats.ts";

/** Figures about events. */
export function analyticsHandlers({ db, analytics, analyticsAnswers }: Context) {
  return {
    async getIngestStats(_, context) {
      const { tenantId } = callerOf(context);
      return await withTenant(db, tenantId, (trx) => readIngestStats(trx, tenantId));
    },

    async getAnalytics(request, context) {
      const { tenantId } = callerOf(context);
      const { timeRange, eventType, userId: userText, start, end } = request;
      const range = rangeOf(request, Date.now());
      // `15m` a second later means the same.
      const asked = start ? [range.startMs, end ? range.endMs : "now"] : [timeRange || "1h"];
      const key = `${tenantId}:${hash("sha256", JSON.stringify([...asked, eventType, userText]), "base64url")}`;
      return await analyticsAnswers.get(key, () =>
        analytics.compute(tenantId, { ...range, eventType, userText }),
      );
    },
  } satisfies Partial<ServiceImpl<typeof IngestionService>>;
}
