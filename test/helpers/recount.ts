import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampDate, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import type { Client as Connection, Pool } from "pg";
import type { GetAnalyticsResponse } from "../../server/src/gen/pulsewire/ingestion/v1/analytics_pb.js";
import type { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";

export interface RecountQuery {
  readonly startMs: number;
  readonly endMs: number;
  readonly eventType?: string;
  readonly userId?: string;
}

/** Waits until nothing is pending in the tenant; fails when that takes too long. */
export async function untilProcessed(
  ingestion: Pick<Client<typeof IngestionService>, "getIngestStats">,
  timeoutMs = 30_000,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const { pending } = await ingestion.getIngestStats({});
    if (pending === 0n) return;
    assert.ok(Date.now() < end, `${pending} events are still pending`);
    await sleep(50);
  }
}

interface NaiveAnswer {
  total: number;
  types: Record<string, number>;
  users: number;
  sessions: number;
  /** By user: events, time of the last, types. */
  byUser: Map<string, { count: number; lastMs: number; types: Set<string> }>;
  withoutUser: number;
  /** By minute. */
  minutes: Map<number, number>;
  metrics: Map<
    string,
    { count: number; sum: number; min: number; max: number; lasts: number[]; lastMs: number }
  >;
}

/** Counts the events themselves, one by one, past row security and past everything that the server does. */
export async function recount(
  database: Pool | Connection,
  tenantId: string,
  { startMs, endMs, eventType = "", userId = "" }: RecountQuery,
): Promise<NaiveAnswer> {
  const { rows } = await database.query<{
    event_type: string;
    user_id: string | null;
    session_id: string | null;
    occurred_at: Date;
    metrics: Record<string, number> | null;
  }>(
    `select event_type, user_id, session_id, occurred_at, metrics from events e
     where tenant_id = $1 and occurred_at >= $2 and occurred_at < $3
       and ($4 = '' or event_type = $4) and ($5 = '' or strpos(user_id, $5) > 0)
       and not exists (select from event_dead_letters d where d.tenant_id = e.tenant_id and d.event_row = e.id)`,
    [tenantId, new Date(startMs), new Date(endMs), eventType, userId],
  );
  const answer: NaiveAnswer = {
    total: rows.length,
    types: {},
    users: new Set(rows.map((row) => row.user_id).filter(Boolean)).size,
    sessions: new Set(rows.map((row) => row.session_id).filter(Boolean)).size,
    byUser: new Map(),
    withoutUser: rows.filter((row) => row.user_id === null).length,
    minutes: new Map(),
    metrics: new Map(),
  };
  for (const { event_type: type, user_id: user, occurred_at, metrics } of rows) {
    const ms = occurred_at.getTime();
    answer.types[type] = (answer.types[type] ?? 0) + 1;
    const minute = Math.floor(ms / 60_000) * 60_000;
    answer.minutes.set(minute, (answer.minutes.get(minute) ?? 0) + 1);
    if (user !== null) {
      const known = answer.byUser.get(user) ?? { count: 0, lastMs: 0, types: new Set() };
      known.count++;
      known.lastMs = Math.max(known.lastMs, ms);
      known.types.add(type);
      answer.byUser.set(user, known);
    }
    for (const [name, value] of Object.entries(metrics ?? {})) {
      const key = `${type}\n${name}`;
      const known = answer.metrics.get(key);
      if (!known) {
        answer.metrics.set(key, { count: 1, sum: value, min: value, max: value, lasts: [value], lastMs: ms });
        continue;
      }
      known.count++;
      known.sum += value;
      known.min = Math.min(known.min, value);
      known.max = Math.max(known.max, value);
      if (ms > known.lastMs) Object.assign(known, { lasts: [value], lastMs: ms });
      else if (ms === known.lastMs) known.lasts.push(value);
    }
  }
  return answer;
}

/** Fails where an answer of GetAnalytics is not what counting the events gives. */
export function assertSame(answer: GetAnalyticsResponse, naive: NaiveAnswer, query: RecountQuery): void {
  assert.equal(Number(answer.totalEvents), naive.total, "total_events");
  assert.deepEqual(
    Object.fromEntries(answer.eventsByType.map(({ eventType, count }) => [eventType, Number(count)])),
    naive.types,
    "events_by_type",
  );
  const counts = answer.eventsByType.map(({ count }) => Number(count));
  assert.deepEqual(
    counts,
    counts.toSorted((a, b) => b - a),
  );
  for (const { count, percentage } of answer.eventsByType) {
    assert.equal(percentage, Math.round((1_000 * Number(count)) / naive.total) / 10);
  }
  assert.equal(Number(answer.uniqueUsers), naive.users, "unique_users");
  assert.equal(Number(answer.uniqueSessions), naive.sessions, "unique_sessions");
  const average = naive.users > 0 ? (naive.total - naive.withoutUser) / naive.users : 0;
  assert.ok(Math.abs(answer.avgEventsPerUser - average) < 1e-9, "avg_events_per_user");

  const most = [...naive.byUser.values()].map(({ count }) => count).toSorted((a, b) => b - a);
  assert.deepEqual(
    answer.topUsers.map(({ eventCount }) => Number(eventCount)),
    most.slice(0, 10),
    "top_users",
  );
  for (const { userId, eventCount, lastEventAt, eventTypes } of answer.topUsers) {
    const user = naive.byUser.get(userId);
    assert.equal(Number(eventCount), user?.count, `events of ${userId}`);
    assert.equal(lastEventAt && timestampMs(lastEventAt), user?.lastMs, `last event of ${userId}`);
    assert.deepEqual(new Set(eventTypes), user?.types, `types of ${userId}`);
  }

  const times = answer.eventsOverTime.map(({ timestamp }) => (timestamp ? timestampMs(timestamp) : 0));
  const step = (times[1] ?? 0) - (times[0] ?? 0) || 60_000;
  assert.ok(
    (times[0] ?? 0) <= query.startMs && (times.at(-1) ?? 0) + step >= query.endMs,
    "the steps cover the range",
  );
  const steps = new Map<number, number>(times.map((time) => [time, 0]));
  for (const [minute, count] of naive.minutes) {
    const time = Math.floor(minute / step) * step;
    steps.set(time, (steps.get(time) ?? 0) + count);
  }
  assert.deepEqual(
    new Map(times.map((time, index) => [time, Number(answer.eventsOverTime[index]?.count)])),
    steps,
  );

  if (query.userId) {
    assert.deepEqual(answer.metrics, []);
    return;
  }
  assert.equal(answer.metrics.length, naive.metrics.size, "metrics");
  for (const metric of answer.metrics) {
    const known = naive.metrics.get(`${metric.eventType}\n${metric.name}`);
    assert.ok(known, `${metric.eventType} has no ${metric.name}`);
    assert.equal(Number(metric.count), known.count);
    assert.deepEqual([metric.min, metric.max], [known.min, known.max]);
    assert.ok(Math.abs(metric.sum - known.sum) <= 1e-9 * Math.max(1, Math.abs(known.sum)), "sum");
    assert.ok(known.lasts.includes(metric.last), "last");
    assert.equal(metric.lastAt && timestampDate(metric.lastAt).getTime(), known.lastMs);
  }
}

/** Asks for analytics and compares them with a recount. */
export async function assertRecounted(
  ingestion: Pick<Client<typeof IngestionService>, "getAnalytics">,
  database: Pool | Connection,
  tenantId: string,
  query: RecountQuery,
): Promise<GetAnalyticsResponse> {
  const { startMs, endMs, ...filters } = query;
  const answer = await ingestion.getAnalytics({
    start: timestampFromMs(startMs),
    end: timestampFromMs(endMs),
    ...filters,
  });
  assertSame(answer, await recount(database, tenantId, query), query);
  return answer;
}
