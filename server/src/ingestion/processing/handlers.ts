import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import { withTenant } from "../../db/tenant.ts";
import type { DeadLetterFilter } from "../../gen/pulsewire/ingestion/v1/dead_letter_pb.js";
import { ProcessingStatus } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import type { IngestionService } from "../../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { callerOf } from "../../rpc/caller.ts";
import { batchesChannel } from "../news.ts";
import { rowToEvent } from "../stored-event.ts";
import {
  countDeadLetters,
  type DeadLetterQuery,
  listDeadLetters,
  replayDeadLetters,
} from "./dead-letters.ts";

const defaultPageSize = 100;

/** Dead letters. */
export function deadLetterHandlers({ db, bus, logger }: Context) {
  return {
    async listDeadLetters({ filter, pageSize, pageToken }, context) {
      const { tenantId } = callerOf(context);
      const query = queryOf(filter);
      const identity = `dead letters ${tenantId} ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        listDeadLetters(trx, tenantId, query, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, ({ id }) => [id]);
      const deadLetters = page.map(({ id, reason, attempts, failed_at, event: row }) => {
        const event = rowToEvent(row);
        event.processingStatus = ProcessingStatus.DEAD;
        return { id, event, reason, attempts, failedAt: timestampFromDate(failed_at) };
      });
      return { deadLetters, nextPageToken };
    },

    async replayDeadLetters({ filter, dryRun }, context) {
      const { tenantId } = callerOf(context);
      const query = queryOf(filter);
      const replayed = await withTenant(db, tenantId, (trx) =>
        dryRun ? countDeadLetters(trx, tenantId, query) : replayDeadLetters(trx, tenantId, query),
      );
      if (!dryRun && replayed > 0n) {
        bus.publish(batchesChannel, "").catch((err: unknown) => logger.debug({ err }, "no worker was told"));
      }
      return { replayed };
    },
  } satisfies Partial<ServiceImpl<typeof IngestionService>>;
}

function queryOf(filter: DeadLetterFilter | undefined): DeadLetterQuery {
  return {
    ids: filter?.deadLetterIds ?? [],
    eventType: filter?.eventType ?? "",
    reasonContains: filter?.reasonContains ?? "",
    failedFrom: filter?.failedFrom && timestampDate(filter.failedFrom),
    failedUntil: filter?.failedUntil && timestampDate(filter.failedUntil),
  };
}
