import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import type { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { callerOf } from "../../rpc/caller.ts";
import { notFound } from "../../rpc/errors.ts";
import { requireStoreAccess } from "../access.ts";
import { getStatus, reasonOf, stateOfWord } from "./states.ts";

/** Tells whether a store is heard from. */
export function statusHandlers({ db }: Pick<Context, "db">): Partial<ServiceImpl<typeof MetricsService>> {
  return {
    async getStoreStatus({ storeId }, context) {
      const caller = callerOf(context);
      requireStoreAccess(caller, storeId);
      const status = await withTenant(db, caller.tenantId, (trx) => getStatus(trx, caller.tenantId, storeId));
      if (!status) throw notFound("store", storeId);
      return {
        storeId: status.id,
        state: stateOfWord[status.state],
        since: timestampFromDate(status.since),
        reason: reasonOf(status),
        ...(status.last_sample_at && { lastSampleAt: timestampFromDate(status.last_sample_at) }),
        openAlerts: status.open_alerts,
      };
    },
  };
}
