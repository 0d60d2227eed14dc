import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { withTenant } from "../db/tenant.ts";
import type { Event } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import type { IngestionService } from "../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { callerOf } from "../rpc/caller.ts";
import { invalidField, notFound } from "../rpc/errors.ts";
import { isPromise } from "../rpc/interceptor.ts";
import { requestIdKey } from "../rpc/trace.ts";
import { analyticsHandlers } from "./analytics/handlers.ts";
import { EncodedAnswer, encodeAnswer } from "./answer.ts";
import type { EventRow } from "./event-row.ts";
import { deadLetterHandlers } from "./processing/handlers.ts";
import { eventQuery } from "./reading/event-query.ts";
import { readingHandlers } from "./reading/handlers.ts";
import { storedEvents } from "./reading/stored-events.ts";
import { ScannedEvent, ScannedEvents, UnreadEvents } from "./request-scan.ts";
import { encodedSingleAnswer, singleAnswer } from "./single-answer.ts";
import * as store from "./store.ts";
import { streamEvents } from "./stream-events.ts";

const defaultPageSize = 100;

/** IngestionService as far as it is built; other methods answer UNIMPLEMENTED. */
export function ingestionHandlers(context: Context): Partial<ServiceImpl<typeof IngestionService>> {
  const { config, db, events } = context;
  const { reader, ingest } = events;
  const { maxBatchEvents } = config.ingestion;
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

    // No async function: where nothing else waits, the commit calls the answer's writer back.
    ingestEvent(request, context) {
      const { tenantId } = callerOf(context);
      const { sentAt } = request;
      const scanned = request instanceof ScannedEvent ? request.rows : undefined;
      const rows = scanned ?? [reader.ofMessage(request.event as Event)];
      const answer = scanned ? encodedSingleAnswer : singleAnswer;
      const result = ingest(tenantId, { rows, sentAt, allowPartial: false, path: () => "event" });
      const row = rows[0] as EventRow;
      return isPromise(result) ? result.then((done) => answer(row, done)) : answer(row, result);
    },

    async ingestEvents(request, context) {
      const { tenantId } = callerOf(context);
      if (request instanceof UnreadEvents) throw events.overloaded();
      const { sentAt, allowPartial, omitIfAllAccepted } = request;
      const scanned = request instanceof ScannedEvents ? request.rows : undefined;
      requireBatchSize((scanned ?? request.events).length);
      const rows = scanned ?? request.events.map(reader.ofMessage);
      const result = await ingest(tenantId, {
        rows,
        sentAt,
        allowPartial,
        path: (index) => `events[${index}]`,
      });
      const answer = new EncodedAnswer(encodeAnswer(result, omitIfAllAccepted));
      return scanned ? answer : answer.message;
    },

    streamEvents(requests, context) {
      return streamEvents(requests, {
        events,
        tenantId: callerOf(context).tenantId,
        requestId: context.values.get(requestIdKey),
        maxBatchEvents,
        window: config.ingestion.streamWindow,
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
