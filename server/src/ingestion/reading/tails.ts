import { setTimeout as sleep } from "node:timers/promises";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { WatchEventsRequest, WatchEventsResponse } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { failure } from "../../rpc/errors.ts";
import { PushStream } from "../../rpc/push-stream.ts";
import { listEvents } from "../store.ts";
import { type EventMatch, liveMatch } from "./event-filter.ts";
import { eventQuery } from "./event-query.ts";
import { storedEvents } from "./stored-events.ts";
import { messageOf, snapshotOf, type TailParts, TenantTail } from "./tail.ts";
import { decodePosition, tailIdentity } from "./tail-cursor.ts";
import { compareSnapshots, currentSnapshot, isExpired, readTail, type TailPosition } from "./tail-store.ts";
import { Watcher } from "./watcher.ts";

/** Everybody who watches events in this process. */
export interface EventTails {
  /** Throws INVALID_FIELD and INVALID_CURSOR. */
  watch(tenantId: string, request: WatchEventsRequest): PushStream<WatchEventsResponse>;
  close(): Promise<void>;
}

export function createEventTails(parts: TailParts, shutdown: AbortSignal): EventTails {
  const tails = new Map<string, TenantTail>();
  const closing = new Set<Promise<void>>();
  const catchingUp = new Set<Watcher>();
  const tailOf = (tenantId: string): TenantTail => {
    const found = tails.get(tenantId);
    if (found) return found;
    const tail: TenantTail = new TenantTail(tenantId, parts, () => {
      tails.delete(tenantId);
      const closed = tail.close().finally(() => closing.delete(closed));
      closing.add(closed);
    });
    tails.set(tenantId, tail);
    return tail;
  };
  shutdown.addEventListener("abort", () => {
    for (const tail of tails.values()) tail.end(shutdown.reason);
    for (const watcher of [...catchingUp]) watcher.end(shutdown.reason);
  });

  return {
    watch(tenantId, request) {
      const match = liveMatch(request.filter);
      const identity = tailIdentity(tenantId, request.filter);
      const from = request.cursor ? decodePosition(identity, request.cursor) : undefined;
      return new PushStream((sink) => {
        const watcher = new Watcher(sink);
        if (shutdown.aborted) {
          watcher.end(shutdown.reason);
          return () => {};
        }
        const tail = tailOf(tenantId);
        const release = tail.hold();
        catchingUp.add(watcher);
        const begin = async () => {
          await tail.begun;
          const start = from
            ? await resume(parts, tenantId, from)
            : await backlog(parts, tenantId, request, identity, watcher);
          await catchUp(parts, tail, watcher, identity, match, start);
        };
        begin()
          .catch((error: unknown) => watcher.end(error))
          .finally(() => catchingUp.delete(watcher));
        return () => {
          watcher.stop();
          tail.leave(watcher, identity);
          release();
        };
      });
    },
    async close() {
      await Promise.all([...closing, ...[...tails.values()].map((tail) => tail.close())]);
    },
  };
}

/** How long the reader of all is waited for where it is behind. */
const readerPauseMs = 10;

/** Reads what is missing between a watcher and the reader of all, for the watcher alone, and lets it join. */
async function catchUp(
  parts: TailParts,
  tail: TenantTail,
  watcher: Watcher,
  identity: string,
  match: EventMatch,
  start: TailPosition,
): Promise<void> {
  let at = start;
  // Says where the stream stands, even if there is nothing yet.
  await watcher.send(messageOf(identity, [], at));
  while (!watcher.ended) {
    const goal = tail.position as TailPosition;
    const ahead = at.under ? -1 : compareSnapshots(at.seen, goal.seen);
    // Both have given the same: nothing may be awaited between here and the joining.
    if (ahead === 0 && !goal.under) {
      tail.join(watcher, identity, match);
      return;
    }
    if (ahead >= 0) {
      // The reader is behind, as after a cursor of another process, or in the middle of a step.
      tail.wake();
      await sleep(readerPauseMs);
      continue;
    }
    const { step, events } = await snapshotOf(parts.db, tail.tenantId, async (trx) => {
      const read = await readTail(trx, tail.tenantId, at, goal.seen);
      const rows = read.rows.filter(match);
      return { step: read, events: await storedEvents(trx, tail.tenantId, rows) };
    });
    at = step.position;
    if (events.length > 0) await watcher.send(messageOf(identity, events, at));
  }
}

async function resume(parts: TailParts, tenantId: string, from: TailPosition): Promise<TailPosition> {
  const expired = await snapshotOf(parts.db, tenantId, (trx) => isExpired(trx, tenantId, from));
  if (!expired) return from;
  throw failure(
    ErrorReason.CURSOR_EXPIRED,
    "what came after this cursor is not kept in its order any more; begin without a cursor, and list what lies between",
  );
}

/** Sends the latest events, as far as asked for, and returns where they end. */
async function backlog(
  parts: TailParts,
  tenantId: string,
  { backlog: count, filter }: WatchEventsRequest,
  identity: string,
  watcher: Watcher,
): Promise<TailPosition> {
  const { seen, events } = await snapshotOf(parts.db, tenantId, async (trx) => {
    const rows =
      count > 0 ? await listEvents(trx, tenantId, eventQuery(filter, false), count, undefined) : [];
    return { seen: await currentSnapshot(trx), events: await storedEvents(trx, tenantId, rows.reverse()) };
  });
  if (events.length > 0) await watcher.send(messageOf(identity, events, { seen }));
  return { seen };
}
