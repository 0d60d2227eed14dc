import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { EventFilter } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import type { EventQuery } from "../store.ts";

/** The filter of a request as the store takes it. */
export function eventQuery(filter: EventFilter | undefined, oldestFirst: boolean): EventQuery {
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
