import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor } from "../../db/cursor.ts";
import { withTenant } from "../../db/tenant.ts";
import type { IngestionService } from "../../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { callerOf } from "../../rpc/caller.ts";
import { countUserEvents, deleteUserEvents } from "../deletion.ts";
import { eventQuery } from "./event-query.ts";
import { exportEvents } from "./export.ts";

/** Streams of events, and their deletion. */
export function readingHandlers({ db, eventTails }: Context) {
  return {
    async deleteUserEvents({ userId, dryRun }, context) {
      const { tenantId } = callerOf(context);
      const deleted = dryRun
        ? await withTenant(db, tenantId, (trx) => countUserEvents(trx, tenantId, userId))
        : await deleteUserEvents(db, tenantId, userId);
      return { deleted };
    },

    watchEvents(request, context) {
      return eventTails.watch(callerOf(context).tenantId, request);
    },

    exportEvents({ filter, cursor }, context) {
      const { tenantId } = callerOf(context);
      const query = eventQuery(filter, true);
      const identity = `export events ${tenantId} ${JSON.stringify(query)}`;
      const [after] = cursor ? decodeCursor(cursor, identity, ["uuid"], "cursor") : [];
      return exportEvents(db, tenantId, query, identity, after, context.signal);
    },
  } satisfies Partial<ServiceImpl<typeof IngestionService>>;
}
