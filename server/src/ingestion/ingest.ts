import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import type { Kysely } from "kysely";
import type { Pool } from "pg";
import type { IngestionConfig } from "../config/ingestion.ts";
import { GroupCommit } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import type { Usage } from "../metrics/usage/usage.ts";
import { clockSkewMs } from "../rpc/clock-skew.ts";
import { invalidRequest } from "../rpc/validate.ts";
import type { BatchResult } from "./answer.ts";
import { type EventRow, slot } from "./event-row.ts";
import { createEventFlush } from "./flush.ts";
import { createRowIds } from "./ids.ts";
import type { EventNews } from "./news.ts";
import { correctClock, createEventReader, type EventReader } from "./read-event.ts";

/** Rows of one transaction: enough to share the commit, few enough to keep its callers waiting only shortly. */
const maxRowsPerFlush = 2_000;
/** One flush waits for the disk while the next is being written. */
const maxFlushes = 2;
const minRowsBeside = 500;

const maxPriority = 10;
/** With room for fewer rows than this, batches are refused unread. */
const fullBelowRows = 100;
const retryReason = "the server has more to write than it can hold; send this event again later";

/** What a call sends. */
export interface EventBatch {
  readonly rows: readonly EventRow[];
  /** The sender's clock. */
  readonly sentAt: Timestamp | undefined;
  /** Whether the valid events are wanted where others are broken, and those that find room where others do not. */
  readonly allowPartial: boolean;
  /** Path of an event in the request, for errors. */
  path(index: number): string;
}

/** Checks, deduplicates and commits events. */
export interface EventIngest {
  readonly reader: EventReader;
  /** Whether much is waiting to be written. */
  isUnderPressure(): boolean;
  /** Whether a batch of usual size would be refused, however urgent: then it need not even be read. */
  isFull(): boolean;
  /** The refusal for a batch that was not read. */
  overloaded(): ConnectError;
  /**
   * Commits the events and tells, after the commit, what became of each, in their `status`. Throws INVALID_FIELD where one
   * is broken and `allowPartial` is not set; OVERLOADED, TENANT_LIMIT. Answers at once where there is nothing to commit.
   */
  ingest(tenantId: string, batch: EventBatch): BatchResult | Promise<BatchResult>;
}

export function createEventIngest(
  db: Kysely<Database>,
  pool: Pool,
  limits: IngestionConfig,
  usage: Usage,
  news: EventNews,
): EventIngest {
  const assignId = createRowIds();
  const flush = createEventFlush(db, pool);
  const commits = new GroupCommit<EventRow, EventRow>({
    async flush(submissions) {
      await flush(submissions);
      news.committed(new Set(submissions.map(({ tenantId }) => tenantId)));
    },
    maxRowsPerFlush,
    maxFlushes,
    minRowsBeside,
    maxQueuedRows: limits.maxQueuedRows,
    maxQueuedBytes: limits.maxQueuedBytes,
  });

  /** The rows that are to be written now, with their ids; the others are marked. */
  function admit(rows: readonly EventRow[], priority: number, allowPartial: boolean): readonly EventRow[] {
    const valid = rows.some(isBroken) ? rows.filter((row) => !isBroken(row)) : rows;
    const room = commits.room(priority);
    const admitted = !allowPartial || valid.length <= room || room <= 0 ? valid : mostUrgent(valid, room);
    for (const row of admitted) {
      const { numbers, base } = row;
      assignId(numbers, base + slot.id);
      // An event without an id is known by the one that was made here.
      if (row.lengthOf(slot.eventId) === 0)
        numbers.copyWithin(base + slot.key, base + slot.id, base + slot.id + 4);
    }
    return admitted;
  }

  return {
    reader: createEventReader(limits.maxEventBytes),
    isUnderPressure: () => commits.room(1) < maxRowsPerFlush,
    isFull: () => commits.room(maxPriority) < fullBelowRows,
    overloaded: () => commits.overloaded(),
    ingest(tenantId, { rows, sentAt, allowPartial, path }) {
      const receivedAt = new Date();
      const skewMs = clockSkewMs(sentAt, receivedAt);
      const receivedAtMs = receivedAt.getTime();
      let priority = 1;
      let bytes = 0;
      for (const row of rows) {
        correctClock(row, receivedAtMs, skewMs);
        priority = Math.max(priority, row.at(slot.priority));
        bytes += row.lengthOf(slot.event);
      }
      if (!allowPartial && rows.some(isBroken)) throw invalidEvents(rows, path);
      const admitted = admit(rows, priority, allowPartial);
      const result = (): BatchResult => {
        const retryDelayMs = admitted.length < rows.length ? commits.retryAfterMs() : 0;
        return { rows, receivedAtMs, skewMs, retryDelayMs, retryReason };
      };
      if (admitted.length === 0) return result();
      return usage
        .spend(
          tenantId,
          "events",
          admitted.length,
          () => commits.submit(tenantId, admitted, { priority, bytes }),
          countAccepted,
        )
        .then(result);
    },
  };
}

const countAccepted = (rows: readonly EventRow[]) =>
  rows.reduce((sum, { status }) => sum + (status === "accepted" ? 1 : 0), 0);

const isBroken = ({ violations }: EventRow) => violations !== undefined;

/** As many as there is room for, those of the highest priority first; the others are marked to be sent again. */
function mostUrgent(rows: readonly EventRow[], room: number): readonly EventRow[] {
  const byPriority = rows.toSorted((a, b) => b.at(slot.priority) - a.at(slot.priority));
  for (const row of byPriority.slice(room)) row.status = "retry";
  return rows.filter(({ status }) => status !== "retry");
}

function invalidEvents(rows: readonly EventRow[], path: (index: number) => string) {
  return invalidRequest(
    rows.flatMap(({ violations = [] }, index) =>
      violations.map((violation) => ({
        ...violation,
        field: violation.field ? `${path(index)}.${violation.field}` : path(index),
      })),
    ),
  );
}
