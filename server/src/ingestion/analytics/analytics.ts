/** Analytics of a range, exact, from rollups; what they cost grows with users and sessions, not with events. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Kysely, sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { Database } from "../../db/schema.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import {
  type GetAnalyticsResponse,
  GetAnalyticsResponseSchema,
} from "../../gen/pulsewire/ingestion/v1/analytics_pb.js";
import { decodeEntries, type Entries } from "../rollups/entries.ts";
import { bucketOf, levelMs } from "../rollups/levels.ts";
import { type Kind, kinds, namesOf } from "../rollups/names.ts";
import { coverOf, type Range, type RollupRow, readEntries } from "../rollups/store.ts";
import { addSummary, emptySummary, type Summary } from "../rollups/summary.ts";
import type { AnalyticsRange } from "./range.ts";
import { type Period, type TallyFilter, tally } from "./tally.ts";

export interface AnalyticsQuery extends AnalyticsRange {
  /** Empty: all. */
  readonly eventType: string;
  /** Part of the user's id; empty: all. */
  readonly userText: string;
}

const topUsers = 10;
const maxTypesOfUser = 50;
const maxMetrics = 1_000;

/** Answers from rollups, whose entries it keeps as long as they do not change. */
export class Analytics {
  readonly #db: Kysely<Database>;
  readonly #kept: LRUCache<string, Entries>;

  constructor(db: Kysely<Database>, cacheBytes: number) {
    this.#db = db;
    this.#kept = new LRUCache({
      maxSize: cacheBytes,
      sizeCalculation: ({ size }) => 20 * size + 500,
    });
  }

  async compute(tenantId: string, query: AnalyticsQuery): Promise<GetAnalyticsResponse> {
    const answer = await withTenant(this.#db, tenantId, (trx) => this.#read(trx, tenantId, query), {
      // All of it as it was at one moment.
      isolationLevel: "repeatable read",
    });
    return create(GetAnalyticsResponseSchema, answer);
  }

  async #read(
    trx: TenantTransaction,
    tenantId: string,
    query: AnalyticsQuery,
  ): Promise<MessageInitShape<typeof GetAnalyticsResponseSchema>> {
    const last = await lastNumbers(trx, tenantId);
    const filter = last && (await filterOf(trx, tenantId, query, last.lastUser));
    const common = {
      timeRange: { start: timestampFromMs(query.startMs), end: timestampFromMs(query.endMs) },
      computedAt: timestampFromMs(Date.now()),
    };
    if (!filter) return { ...common, eventsOverTime: seriesOf(query, new Map()) };
    // By user nothing is known of a period but its entries, so these must be of periods no longer than a step.
    const byUser = filter.users !== undefined;
    const range: Range = [query.startMs, query.endMs];
    const rows = await coverOf(trx, tenantId, [range], byUser ? query.stepLevel : levelMs.length - 1);
    const entries = await this.#entriesOf(trx, tenantId, rows);
    const periods = rows.map(
      ({ bucketMs }, index): Period => ({ startMs: bucketMs, entries: entries[index] as Entries }),
    );

    const types = new Map<number, number>();
    const steps = new Map<number, number>();
    const addTo = (map: Map<number, number>, key: number, count: number) =>
      map.set(key, (map.get(key) ?? 0) + count);
    const total = emptySummary();
    if (!byUser) {
      for (const row of await inSteps(trx, tenantId, rows, query.stepLevel)) {
        addSummary(total, only(row.summary, filter.type));
        for (const [type, count] of row.summary.types) {
          if (filter.type !== undefined && type !== filter.type) continue;
          addTo(types, type, count);
          addTo(steps, bucketOf(query.stepLevel, row.bucketMs), count);
        }
      }
    }
    const tallied = tally(
      periods,
      filter,
      last,
      topUsers,
      byUser
        ? (startMs, type, count) => {
            addTo(types, type, count);
            addTo(steps, bucketOf(query.stepLevel, startMs), count);
          }
        : undefined,
    );

    const metrics = [...total.metrics]
      .flatMap(([type, sums]) => [...sums].map(([metric, sum]) => ({ type, metric, ...sum })))
      .sort((a, b) => b.count - a.count || a.type - b.type || a.metric - b.metric)
      .slice(0, maxMetrics);
    const nameOf = await namesFor(trx, tenantId, [
      [kinds.type, [...types.keys(), ...tallied.topUsers.flatMap((user) => [...user.types.keys()])]],
      [kinds.user, tallied.topUsers.map(({ user }) => user)],
      [kinds.metric, metrics.map(({ metric }) => metric)],
    ]);
    const typeName = nameOf(kinds.type);
    return {
      ...common,
      totalEvents: BigInt(tallied.total),
      eventsByType: mostFirst(types).map(([type, count]) => ({
        eventType: typeName(type),
        count: BigInt(count),
        percentage: Math.round((1_000 * count) / tallied.total) / 10,
      })),
      topUsers: tallied.topUsers.map(({ user, count, lastMs, types: byType }) => ({
        userId: nameOf(kinds.user)(user),
        eventCount: BigInt(count),
        lastEventAt: timestampFromMs(lastMs),
        eventTypes: mostFirst(byType)
          .slice(0, maxTypesOfUser)
          .map(([type]) => typeName(type)),
      })),
      eventsOverTime: seriesOf(query, steps),
      avgEventsPerUser:
        tallied.uniqueUsers > 0 ? (tallied.total - tallied.withoutUser) / tallied.uniqueUsers : 0,
      uniqueUsers: BigInt(tallied.uniqueUsers),
      uniqueSessions: BigInt(tallied.uniqueSessions),
      metrics: metrics.map(({ type, metric, count, sum, min, max, last: lastValue, lastMs }) => ({
        eventType: typeName(type),
        name: nameOf(kinds.metric)(metric),
        count: BigInt(count),
        sum,
        min,
        max,
        last: lastValue,
        lastAt: timestampFromMs(lastMs),
      })),
    };
  }

  async #entriesOf(trx: TenantTransaction, tenantId: string, rows: readonly RollupRow[]): Promise<Entries[]> {
    const keyOf = ({ level, bucketMs, version }: RollupRow) => `${tenantId} ${level} ${bucketMs} ${version}`;
    const found = new Map<RollupRow, Entries>();
    for (const row of rows) {
      const kept = this.#kept.get(keyOf(row));
      if (kept) found.set(row, kept);
    }
    const missing = rows.filter((row) => !found.has(row));
    const read = await readEntries(trx, tenantId, missing);
    for (const [index, row] of missing.entries()) {
      const entries = decodeEntries(read[index] as Buffer);
      found.set(row, entries);
      this.#kept.set(keyOf(row), entries);
    }
    return rows.map((row) => found.get(row) as Entries);
  }
}

async function lastNumbers(trx: TenantTransaction, tenantId: string) {
  const row = await trx
    .selectFrom("event_rollup_state")
    .select("last_numbers")
    .where("tenant_id", "=", tenantId)
    .executeTakeFirst();
  const last = (kind: Kind) => row?.last_numbers[kind - 1] ?? 0;
  return row && { lastUser: last(kinds.user), lastSession: last(kinds.session) };
}

/** Undefined: nothing can match. */
async function filterOf(
  trx: TenantTransaction,
  tenantId: string,
  { eventType, userText }: AnalyticsQuery,
  lastUser: number,
): Promise<TallyFilter | undefined> {
  const numbers = async (kind: Kind, condition: ReturnType<typeof sql<boolean>>) =>
    (
      await trx
        .selectFrom("event_names")
        .select("number")
        .where("tenant_id", "=", tenantId)
        .where("kind", "=", kind)
        .where(condition)
        .execute()
    ).map(({ number }) => number);
  let type: number | undefined;
  if (eventType) {
    [type] = await numbers(kinds.type, sql<boolean>`name = ${eventType}`);
    if (type === undefined) return undefined;
  }
  if (!userText) return { type, users: undefined };
  const users = new Uint8Array(lastUser + 1);
  const matching = await numbers(kinds.user, sql<boolean>`strpos(name, ${userText}) > 0`);
  for (const number of matching) users[number] = 1;
  return matching.length > 0 ? { type, users } : undefined;
}

/** The same range in rows that are no longer than a step. */
async function inSteps(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly RollupRow[],
  stepLevel: number,
): Promise<RollupRow[]> {
  const longer = rows
    .filter(({ level }) => level > stepLevel)
    .map(({ level, bucketMs }): Range => [bucketMs, bucketMs + (levelMs[level] as number)])
    .sort(([a], [b]) => a - b);
  return [
    ...rows.filter(({ level }) => level <= stepLevel),
    ...(await coverOf(trx, tenantId, longer, stepLevel)),
  ];
}

function only(summary: Summary, type: number | undefined): Summary {
  if (type === undefined) return summary;
  const sums = summary.metrics.get(type);
  return { ...summary, metrics: sums ? new Map([[type, sums]]) : new Map() };
}

function seriesOf({ startMs, endMs, stepLevel }: AnalyticsQuery, counts: ReadonlyMap<number, number>) {
  const series = [];
  for (let at = bucketOf(stepLevel, startMs); at < endMs; at += levelMs[stepLevel] as number) {
    series.push({ timestamp: timestampFromMs(at), count: BigInt(counts.get(at) ?? 0) });
  }
  return series;
}

function mostFirst(counts: ReadonlyMap<number, number>): [number, number][] {
  return [...counts].sort(([a, countA], [b, countB]) => countB - countA || a - b);
}

async function namesFor(
  trx: TenantTransaction,
  tenantId: string,
  wanted: readonly [Kind, readonly number[]][],
): Promise<(kind: Kind) => (number: number) => string> {
  const found = new Map<Kind, Map<number, string>>();
  for (const [kind, numbers] of wanted) {
    found.set(kind, await namesOf(trx, tenantId, kind, new Set(numbers)));
  }
  return (kind) => (number) => {
    const name = found.get(kind)?.get(number);
    if (name === undefined) throw new Error("a number without a name");
    return name;
  };
}
