import { durationFromMs, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { withTenant } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { type Event, ProcessingStatus } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import type { IngestionService } from "../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { callerOf } from "../rpc/caller.ts";
import { failure, invalidField, notFound } from "../rpc/errors.ts";
import { requestIdKey } from "../rpc/trace.ts";
import { analyticsHandlers } from "./analytics/handlers.ts";
import { EncodedAnswer, encodeAnswer, outcomeOf } from "./answer.ts";
import { type EventRow, slot } from "./event-row.ts";
import { timeOfId, timeOfUuidv7 } from "./ids.ts";
import { deadLetterHandlers } from "./processing/handlers.ts";
import { eventQuery } from "./reading/event-query.ts";
import { readingHandlers } from "./reading/handlers.ts";
import { storedEvents } from "./reading/stored-events.ts";
import { ScannedEvent, ScannedEvents, UnreadEvents } from "./request-scan.ts";
import * as store from "./store.ts";
import { streamEvents } from "./stream-events.ts";

const defaultPageSize = 100;

/** IngestionService as far as it is built; other methods answer UNIMPLEMENTED. */
export function ingestionHandlers(context: Context): Partial<ServiceImpl<typeof IngestionService>> {
  const { config, db, events } = context;
  const { reader, ingest } = events;
  const { maxBatchEvents } = config.limits;
  const requireBatchSize = (size: number) => {
    if (size <= maxBatchEvents) return;
    throw invalidField(
      "events",
      `at most ${maxBatchEvents} in one batch; send several`,
      "repeated.max_items",
    );
  };
  return {
    ...analyticsHandlers(context),
    ...deadLetterHandlers(context),
    ...readingHandlers(context),

    async ingestEvent(request, context) {
      const { tenantId } = callerOf(context);
      const rows =
        request instanceof ScannedEvent ? request.rows : [reader.ofMessage(request.event as Event)];
      const batch = { rows, sentAt: request.sentAt, allowPartial: false, path: () => "event" };
      const result = await ingest(tenantId, batch);
      const row = rows[0] as EventRow;
      const { id, message } = outcomeOf(row, result);
      if (row.status === "conflict") throw failure(ErrorReason.CONFLICT, message, { metadata: { id } });
      return {
        eventId: id,
        duplicate: row.status === "duplicate",
        receivedAt: row.firstId
          ? timestampFromDate(timeOfUuidv7(row.firstId))
          : timestampFromMs(timeOfId(row.numbers, row.base + slot.id)),
        processingStatus: ProcessingStatus.QUEUED,
        clockSkew: durationFromMs(result.skewMs),
      };
    },

    async ingestEvents(request, context) {
      const { tenantId } = callerOf(context);
      if (request instanceof UnreadEvents) throw events.overloaded();
      const { sentAt, allowPartial } = request;
      const scanned = request instanceof ScannedEvents ? request.rows : undefined;
      requireBatchSize((scanned ?? request.events).length);
      const rows = scanned ?? request.events.map(reader.ofMessage);
      const result = await ingest(tenantId, {
        rows,
        sentAt,
        allowPartial,
        path: (index) => `events[${index}]`,
      });
      const answer = new EncodedAnswer(encodeAnswer(result));
      return scanned ? answer : answer.message;
    },

    streamEvents(requests, context) {
      return streamEvents(requests, {
        events,
        tenantId: callerOf(context).tenantId,
        requestId: context.values.get(requestIdKey),
        maxBatchEvents,
        window: config.limits.streamWindow,
        signal: context.signal,
      });
    },

    async getEvent({ eventId }, context) {
      const { tenantId } = callerOf(context);
      const [event] = await withTenant(db, tenantId, async (trx) => {
        const row = await store.getEvent(trx, tenantId, eventId);
        return row ? await storedEvents(trx, tenantId, [row]) : [];
      });
      if (!event) throw notFound("event", eventId);
      return { event };
    },

    async listEvents({ filter, pageSize, pageToken, oldestFirst }, context) {
      const { tenantId } = callerOf(context);
      const query = eventQuery(filter, oldestFirst);
      const identity = `events ${tenantId} ${JSON.stringify(query)}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      return await withTenant(db, tenantId, async (trx) => {
        const rows = await store.listEvents(trx, tenantId, query, limit + 1, after);
        const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.id]);
        return { events: await storedEvents(trx, tenantId, page), nextPageToken };
      });
    },
  };
}
