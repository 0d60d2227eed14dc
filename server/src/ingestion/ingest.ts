import { create, toBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Kysely } from "kysely";
import type { Config } from "../config.ts";
import { GroupCommit } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import {
  type ItemOutcome,
  ItemOutcomeSchema,
  type OutcomeCounts,
  OutcomeCountsSchema,
  OutcomeStatus,
} from "../gen/pulsewire/common/v1/outcome_pb.js";
import { type Event, EventSchema } from "../gen/pulsewire/ingestion/v1/event_pb.js";
import type { Usage } from "../metrics/usage/usage.ts";
import type { FieldViolation } from "../rpc/errors.ts";
import { violationsOf } from "../rpc/validate.ts";
import { type EventRow, eventToRow } from "./event-row.ts";
import { createEventIds } from "./ids.ts";
import type { EventNews } from "./news.ts";
import { budgetAfter } from "./size.ts";
import { type EventResult, flushEvents } from "./store.ts";

/** Rows of one transaction: enough to share the commit, few enough to keep its callers waiting only shortly. */
const maxRowsPerFlush = 2_000;
/** One flush waits for the disk while the next is being written. */
const maxFlushes = 2;

/** An event that breaks a rule. */
export interface InvalidEvent {
  readonly index: number;
  readonly violations: readonly FieldViolation[];
}

/** Checks, deduplicates and commits events. */
export interface EventIngest {
  /** The events that break a rule of the contract or a limit, with their clocks corrected by `skewMs`. */
  check(events: readonly Event[], skewMs: number): InvalidEvent[];
  /** Commits valid events; one result for each, after the commit. Throws OVERLOADED and TENANT_LIMIT. */
  commit(
    tenantId: string,
    events: readonly Event[],
    receivedAt: Date,
    skewMs: number,
  ): Promise<EventResult[]>;
}

export function createEventIngest(
  db: Kysely<Database>,
  limits: Config["limits"],
  usage: Usage,
  news: EventNews,
): EventIngest {
  const nextId = createEventIds();
  const commits = new GroupCommit<EventRow, EventResult>({
    async flush(submissions) {
      await flushEvents(db, submissions);
      news.committed(new Set(submissions.map(({ tenantId }) => tenantId)));
    },
    maxRowsPerFlush,
    maxFlushes,
    maxQueuedRows: limits.maxQueuedRows,
  });
  return {
    check: (events, skewMs) =>
      events.flatMap((event, index) => {
        const violations = checkEvent(event, limits.maxEventBytes, skewMs);
        return violations.length > 0 ? [{ index, violations }] : [];
      }),
    commit: (tenantId, events, receivedAt, skewMs) =>
      usage.spend(
        tenantId,
        "events",
        events.length,
        () =>
          commits.submit(
            tenantId,
            events.map((event) => eventToRow(event, nextId(), receivedAt, skewMs)),
          ),
        (results) => results.filter(({ status }) => status === "accepted").length,
      ),
  };
}

const year10000Ms = Date.UTC(10_000, 0, 1);

function checkEvent(event: Event, maxEventBytes: number, skewMs: number): FieldViolation[] {
  const violations = violationsOf(EventSchema, event);
  if (violations.length > 0) return violations;
  const occurredAtMs = event.timestamp ? timestampMs(event.timestamp) + skewMs : 0;
  if (occurredAtMs < 0 || occurredAtMs >= year10000Ms) {
    const description =
      "must lie in the years 1970 to 9999, also after the correction of the clock by sent_at";
    violations.push({ field: "timestamp", description, rule: "timestamp.range" });
  }
  // Only structs can grow past the limit within the field rules, so nothing else is encoded for its size.
  if (mayExceed(event, maxEventBytes) && encodedSize(event) > maxEventBytes) {
    violations.push({
      field: "",
      description: `the encoded event must have at most ${maxEventBytes} bytes; shorten its payload`,
      rule: "event.max_bytes",
    });
  }
  return violations;
}

/** All fields but structs together, by their rules: 100 metrics of 200 characters are the most of it. */
const plainBytesAtMost = 150_000;

function mayExceed({ context, metadata, payload }: Event, maxEventBytes: number): boolean {
  if (!context && !metadata && !payload) return false;
  let left = maxEventBytes - plainBytesAtMost;
  for (const struct of [context, metadata, payload]) if (struct) left = budgetAfter(struct, left);
  return left < 0;
}

function encodedSize(event: Event): number {
  return toBinary(EventSchema, event).byteLength;
}

const statuses = {
  accepted: OutcomeStatus.ACCEPTED,
  duplicate: OutcomeStatus.DUPLICATE,
  conflict: OutcomeStatus.CONFLICT,
} as const;

/** The outcome of a committed event. */
export function outcomeOf(event: Event, result: EventResult): ItemOutcome {
  const conflict = result.status === "conflict";
  return create(ItemOutcomeSchema, {
    status: statuses[result.status],
    id: event.eventId || result.firstId,
    ...(conflict && {
      field: "event_id",
      code: "CONFLICT",
      message: "this event_id was used before with another body; send the event under an id of its own",
    }),
  });
}

/** The outcome of an event that breaks a rule. */
export function rejection(event: Event, { violations }: InvalidEvent): ItemOutcome {
  const [first] = violations;
  return create(ItemOutcomeSchema, {
    status: OutcomeStatus.REJECTED,
    id: event.eventId,
    field: first?.field ?? "",
    code: first?.rule ?? "",
    message: first?.description ?? "",
  });
}

/** Counts outcomes; the numbers sum to the batch. */
export function countOutcomes(outcomes: readonly ItemOutcome[]): OutcomeCounts {
  const counts = create(OutcomeCountsSchema, { total: outcomes.length });
  for (const { status } of outcomes) {
    if (status === OutcomeStatus.ACCEPTED) counts.accepted++;
    else if (status === OutcomeStatus.DUPLICATE) counts.duplicate++;
    else if (status === OutcomeStatus.CONFLICT) counts.conflict++;
    else if (status === OutcomeStatus.REJECTED) counts.rejected++;
    else counts.retry++;
  }
  return counts;
}
