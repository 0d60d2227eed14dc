/** Analytics of a range, exact, from rollups; what they cost grows with users and sessions, not with events. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Kysely, sql } from "kysely";
import type { Database } from "../../db/schema.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import {
  type GetAnalyticsResponse,
  GetAnalyticsResponseSchema,
} from "../../gen/pulsewire/ingestion/v1/analytics_pb.js";
import { coverOf, type Range, type RollupRow } from "../rollups/cover.ts";
import { bucketOf, levelMs } from "../rollups/levels.ts";
import { type Kind, kinds, namesOf } from "../rollups/names.ts";
import { addSummary, emptySummary, type Summary } from "../rollups/summary.ts";
import { type KeptRollup, KeptRollups } from "./kept-rollups.ts";
import type { AnalyticsRange } from "./range.ts";
import { entriesOfUsers, type LastNumbers, type Tallied, Tally, type UserSet, userSet } from "./tally.ts";

export interface AnalyticsQuery extends AnalyticsRange {
  /** Empty: all. */
  readonly eventType: string;
  /** Part of the user's id; empty: all. */
  readonly userText: string;
}

const topUsers = 10;
const maxTypesOfUser = 50;
const maxMetrics = 1_000;

/** Answers from rollups. */
export class Analytics {
  readonly #db: Kysely<Database>;
  readonly #kept: KeptRollups;

  constructor(db: Kysely<Database>, cacheBytes: number) {
    this.#db = db;
    this.#kept = new KeptRollups(cacheBytes);
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
    const { type, users } = filter;
    // By user nothing is known of a period but its entries, so these must be of periods no longer than a step.
    const maxLevel = users ? query.stepLevel : levelMs.length - 1;
    const rows = await coverOf(trx, tenantId, [[query.startMs, query.endMs]], maxLevel);
    const periods = await this.#kept.load(trx, tenantId, rows);
    const counted = users
      ? countOfUsers(periods, type, users, last, query)
      : await countOfAll(trx, tenantId, rows, periods, type, last, query);
    const { tallied, types, steps, total } = counted;
    const typesOf = typesOfUsers(
      periods,
      type,
      tallied.topUsers.map(({ user }) => user),
      last,
    );

    const metrics = [...total.metrics]
      .flatMap(([of, sums]) => [...sums].map(([metric, sum]) => ({ of, metric, ...sum })))
      .sort((a, b) => b.count - a.count || a.of - b.of || a.metric - b.metric)
      .slice(0, maxMetrics);
    const nameOf = await namesFor(trx, tenantId, [
      [kinds.type, [...types.keys()]],
      [kinds.user, tallied.topUsers.map(({ user }) => user)],
      [kinds.metric, [...new Set(metrics.map(({ metric }) => metric))]],
    ]);
    const typeName = nameOf(kinds.type);
    return {
      ...common,
      totalEvents: BigInt(tallied.total),
      eventsByType: mostFirst(types).map(([of, count]) => ({
        eventType: typeName(of),
        count: BigInt(count),
        percentage: Math.round((1_000 * count) / tallied.total) / 10,
      })),
      topUsers: tallied.topUsers.map(({ user, count, lastMs }) => ({
        userId: nameOf(kinds.user)(user),
        eventCount: BigInt(count),
        lastEventAt: timestampFromMs(lastMs),
        eventTypes: mostFirst(typesOf.get(user) ?? new Map())
          .slice(0, maxTypesOfUser)
          .map(([of]) => typeName(of)),
      })),
      eventsOverTime: seriesOf(query, steps),
      avgEventsPerUser:
        tallied.uniqueUsers > 0 ? (tallied.total - tallied.withoutUser) / tallied.uniqueUsers : 0,
      uniqueUsers: BigInt(tallied.uniqueUsers),
      uniqueSessions: BigInt(tallied.uniqueSessions),
      metrics: metrics.map(({ of, metric, count, sum, min, max, last: lastValue, lastMs }) => ({
        eventType: typeName(of),
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
}

interface Counted {
  readonly tallied: Tallied;
  /** Events by type. */
  readonly types: Map<number, number>;
  /** Events by step. */
  readonly steps: Map<number, number>;
  /** For metrics. */
  readonly total: Summary;
}

const addTo = (map: Map<number, number>, key: number, count: number) =>
  map.set(key, (map.get(key) ?? 0) + count);

async function countOfAll(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly RollupRow[],
  periods: readonly KeptRollup[],
  type: number | undefined,
  last: LastNumbers,
  { stepLevel }: AnalyticsQuery,
): Promise<Counted> {
  const tally = new Tally(last);
  for (const { digest, startMs } of periods) tally.addDigest(digest(type), startMs);
  const types = new Map<number, number>();
  const steps = new Map<number, number>();
  const total = emptySummary();
  for (const row of await inSteps(trx, tenantId, rows, stepLevel)) {
    addSummary(total, only(row.summary, type));
    for (const [of, count] of row.summary.types) {
      if (type !== undefined && of !== type) continue;
      addTo(types, of, count);
      addTo(steps, bucketOf(stepLevel, row.bucketMs), count);
    }
  }
  return { tallied: tally.result(topUsers), types, steps, total };
}

function countOfUsers(
  periods: readonly KeptRollup[],
  type: number | undefined,
  users: UserSet,
  last: LastNumbers,
  { stepLevel }: AnalyticsQuery,
): Counted {
  const tally = new Tally(last);
  const types = new Map<number, number>();
  const steps = new Map<number, number>();
  for (const { entries, byUser, startMs } of periods) {
    const step = bucketOf(stepLevel, startMs);
    entriesOfUsers(entries, byUser, users, (index) => {
      const of = entries.types[index] as number;
      if (type !== undefined && of !== type) return;
      const count = entries.counts[index] as number;
      tally.add(entries.users[index] as number, count, startMs + (entries.lasts[index] as number));
      tally.addSession(entries.sessions[index] as number);
      addTo(types, of, count);
      addTo(steps, step, count);
    });
  }
  return { tallied: tally.result(topUsers), types, steps, total: emptySummary() };
}

/** Events by type of some users. */
function typesOfUsers(
  periods: readonly KeptRollup[],
  type: number | undefined,
  users: readonly number[],
  { lastUser }: LastNumbers,
): Map<number, Map<number, number>> {
  const found = new Map(users.map((user) => [user, new Map<number, number>()]));
  const wanted = userSet(users, lastUser);
  for (const { entries, byUser } of periods) {
    entriesOfUsers(entries, byUser, wanted, (index) => {
      const of = entries.types[index] as number;
      if (type !== undefined && of !== type) return;
      addTo(
        found.get(entries.users[index] as number) as Map<number, number>,
        of,
        entries.counts[index] as number,
      );
    });
  }
  return found;
}

async function lastNumbers(trx: TenantTransaction, tenantId: string) {
  const { rows } = await sql<{ last_numbers: number[] }>`/* kept as read_last_numbers */
    select last_numbers from event_rollup_state where tenant_id = ${tenantId}::uuid`.execute(trx);
  const [row] = rows;
  const last = (kind: Kind) => row?.last_numbers[kind - 1] ?? 0;
  return row && { lastUser: last(kinds.user), lastSession: last(kinds.session) };
}

/** Undefined: nothing can match. */
async function filterOf(
  trx: TenantTransaction,
  tenantId: string,
  { eventType, userText }: AnalyticsQuery,
  lastUser: number,
): Promise<{ type: number | undefined; users: UserSet | undefined } | undefined> {
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
  const matching = await numbers(kinds.user, sql<boolean>`strpos(name, ${userText}) > 0`);
  return matching.length > 0 ? { type, users: userSet(matching, lastUser) } : undefined;
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
  const found = await namesOf(trx, tenantId, wanted);
  return (kind) => (number) => {
    const name = found.get(kind)?.get(number);
    if (name === undefined) throw new Error("a number without a name");
    return name;
  };
}
