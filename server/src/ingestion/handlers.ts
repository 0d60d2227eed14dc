import { durationFromMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { withTenant } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { type Event, type EventFilter, ProcessingStatus } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import type { IngestionService } from "../gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { callerOf } from "../rpc/caller.ts";
import { clockSkewMs } from "../rpc/clock-skew.ts";
import { failure, invalidField, notFound } from "../rpc/errors.ts";
import { invalidRequest } from "../rpc/validate.ts";
import { analyticsHandlers } from "./analytics/handlers.ts";
import { timeOfUuidv7 } from "./ids.ts";
import { countOutcomes, type InvalidEvent, outcomeOf, rejection } from "./ingest.ts";
import { deadLetterHandlers } from "./processing/handlers.ts";
import { storedEvents } from "./reading/stored-events.ts";
import * as store from "./store.ts";

const defaultPageSize = 100;

/** IngestionService as far as it is built; other methods answer UNIMPLEMENTED. */
export function ingestionHandlers(context: Context): Partial<ServiceImpl<typeof IngestionService>> {
  const { config, db, events: ingest } = context;
  return {
    ...analyticsHandlers(context),
    ...deadLetterHandlers(context),

    async ingestEvent({ event, sentAt }, context) {
      const { tenantId } = callerOf(context);
      const receivedAt = new Date();
      const skewMs = clockSkewMs(sentAt, receivedAt);
      const [invalid] = ingest.check([event as Event], skewMs);
      if (invalid) throw invalidEvents([invalid], () => "event");
      const [result] = await ingest.commit(tenantId, [event as Event], receivedAt, skewMs);
      if (!result) throw new Error("a commit without a result");
      const outcome = outcomeOf(event as Event, result);
      if (result.status === "conflict") {
        throw failure(ErrorReason.CONFLICT, outcome.message, { metadata: { id: outcome.id } });
      }
      return {
        eventId: outcome.id,
        duplicate: result.status === "duplicate",
        receivedAt: timestampFromDate(timeOfUuidv7(result.firstId)),
        processingStatus: ProcessingStatus.QUEUED,
        clockSkew: durationFromMs(skewMs),
      };
    },

    async ingestEvents({ events, allowPartial, sentAt }, context) {
      const { tenantId } = callerOf(context);
      const { maxBatchEvents } = config.limits;
      if (events.length > maxBatchEvents) {
        throw invalidField(
          "events",
          `at most ${maxBatchEvents} in one batch; send several`,
          "repeated.max_items",
        );
      }
      const receivedAt = new Date();
      const skewMs = clockSkewMs(sentAt, receivedAt);
      const invalid = ingest.check(events, skewMs);
      if (invalid.length > 0 && !allowPartial) throw invalidEvents(invalid, (index) => `events[${index}]`);
      const rejected = new Map(invalid.map((entry) => [entry.index, entry]));
      const valid = rejected.size === 0 ? events : events.filter((_, index) => !rejected.has(index));
      const results = (await ingest.commit(tenantId, valid, receivedAt, skewMs)).values();
      const outcomes = events.map((event, index) => {
        const violation = rejected.get(index);
        return violation
          ? rejection(event, violation)
          : outcomeOf(event, results.next().value as store.EventResult);
      });
      return {
        counts: countOutcomes(outcomes),
        outcomes,
        receivedAt: timestampFromDate(receivedAt),
        clockSkew: durationFromMs(skewMs),
      };
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
      const query = queryOf(filter, oldestFirst);
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

function invalidEvents(invalid: readonly InvalidEvent[], path: (index: number) => string) {
  return invalidRequest(
    invalid.flatMap(({ index, violations }) =>
      violations.map((violation) => ({
        ...violation,
        field: violation.field ? `${path(index)}.${violation.field}` : path(index),
      })),
    ),
  );
}

function queryOf(filter: EventFilter | undefined, oldestFirst: boolean): store.EventQuery {
  return {
    eventTypes: filter?.eventTypes ?? [],
    userId: filter?.userId ?? "",
    sessionId: filter?.sessionId ?? "",
    sourceService: filter?.sourceService ?? "",
    minSeverity: filter?.minSeverity ?? 0,
    receivedFrom: filter?.receivedFrom && timestampDate(filter.receivedFrom),
    receivedUntil: filter?.receivedUntil && timestampDate(filter.receivedUntil),
    oldestFirst,
  };
}
