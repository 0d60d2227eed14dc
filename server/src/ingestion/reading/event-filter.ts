import type { Selectable } from "kysely";
import type { EventsTable } from "../../db/schema/ingestion.ts";
import type { EventFilter } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { invalidField } from "../../rpc/errors.ts";

/** Whether a row is meant by a filter without times. */
export type EventMatch = (row: Selectable<EventsTable>) => boolean;

/** Reads a filter of a live stream. Throws INVALID_FIELD for times, which have no sense there. */
export function liveMatch(filter: EventFilter | undefined): EventMatch {
  if (!filter) return () => true;
  for (const [field, value] of [
    ["received_from", filter.receivedFrom],
    ["received_until", filter.receivedUntil],
  ] as const) {
    if (value)
      throw invalidField(`filter.${field}`, "must be empty: what is watched has only just been received");
  }
  const { userId, sessionId, sourceService, minSeverity } = filter;
  const types = filter.eventTypes.length > 0 ? new Set(filter.eventTypes) : undefined;
  return (row) =>
    (!types || types.has(row.event_type)) &&
    (!userId || row.user_id === userId) &&
    (!sessionId || row.session_id === sessionId) &&
    (!sourceService || row.source_service === sourceService) &&
    row.severity >= minSeverity;
}
