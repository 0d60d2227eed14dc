import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import {
  Aggregation,
  type QuerySamplesRequest,
  type QuerySamplesResponseSchema,
  type SeriesPointsSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import type { Caller } from "../rpc/caller.ts";
import { invalidField, notFound } from "../rpc/errors.ts";
import { kindOf } from "./messages.ts";
import { readPoints } from "./query.ts";
import { getStore, listSeries, type SeriesRow } from "./store.ts";

const defaultRangeMs = 3_600_000;
const defaultMaxPoints = 11_000;
const maxSeries = 10_000;

type SeriesPoints = MessageInitShape<typeof SeriesPointsSchema> & {
  timestampsMs: number[];
  values: number[];
};

/** Reads the points that a query asks for. */
export async function answerQuery(
  trx: TenantTransaction,
  { tenantId }: Caller,
  request: QuerySamplesRequest,
): Promise<MessageInitShape<typeof QuerySamplesResponseSchema>> {
  const { storeId, name, labels } = request;
  const end = request.end ? timestampDate(request.end) : new Date();
  const start = request.start ? timestampDate(request.start) : new Date(end.getTime() - defaultRangeMs);
  if (start >= end) throw invalidField("start", "must lie before end", "range.order");
  const stepMs = request.step && durationMs(request.step);
  if (stepMs === undefined && request.aggregation) {
    throw invalidField("step", "is needed to aggregate; leave aggregation out for raw samples", "required");
  }
  if (stepMs === undefined && request.groupBy.length > 0) {
    throw invalidField("step", "is needed to group; leave group_by out for raw samples", "required");
  }
  const maxPoints = request.maxPoints || defaultMaxPoints;

  const series = await listSeries(
    trx,
    tenantId,
    { storeId, name, nameContains: "", labels },
    maxSeries + 1,
    undefined,
  );
  if (series.length > maxSeries) {
    throw invalidField(
      "labels",
      `more than ${maxSeries} series match; ask for fewer by store, name or labels`,
      "range",
    );
  }
  if (series.length === 0 && storeId && !(await getStore(trx, tenantId, storeId)))
    throw notFound("store", storeId);

  const groups = groupSeries(series, request.groupBy);
  for (const [aggregation, members] of byAggregation(groups, request.aggregation)) {
    const points = await readPoints(trx, tenantId, {
      seriesIds: members.flatMap(({ seriesIds }) => seriesIds),
      groups: members.flatMap(({ seriesIds }, index) => seriesIds.map(() => index)),
      start,
      end,
      stepMs,
      aggregation,
      maxPoints,
    }).catch((error: unknown) => {
      throw classifyDatabaseError(error)?.sqlstate === numericOutOfRange ? outOfRange() : error;
    });
    if (points.length > maxPoints) {
      throw invalidField(
        "max_points",
        `the answer has more than ${maxPoints} points; take a longer step`,
        "range",
      );
    }
    for (const { group, ms, value } of points) {
      const answer = members[group]?.answer;
      answer?.timestampsMs.push(ms);
      answer?.values.push(value);
    }
  }
  return {
    series: groups.map(({ answer }) => answer).filter(({ values }) => values.length > 0),
    start: timestampFromDate(start),
    end: timestampFromDate(end),
  };
}

const numericOutOfRange = "22003";

function outOfRange() {
  return invalidField(
    "aggregation",
    "the result is beyond the range of a double; ask for max or last",
    "range",
  );
}

interface Group {
  readonly seriesIds: string[];
  readonly counter: boolean;
  readonly answer: SeriesPoints;
}

/** Puts series together that agree in name and in the labels named; without names every series is a group. */
function groupSeries(series: readonly SeriesRow[], groupBy: readonly string[]): Group[] {
  const groups = new Map<string, Group>();
  for (const row of series) {
    const labels =
      groupBy.length === 0
        ? row.labels
        : Object.fromEntries(
            groupBy.filter((label) => label in row.labels).map((label) => [label, row.labels[label] ?? ""]),
          );
    const storeId = groupBy.length === 0 || groupBy.includes("store_id") ? row.store_id : "";
    const identity = groupBy.length === 0 ? row.id : JSON.stringify([row.name, storeId, labels]);
    const group = groups.get(identity);
    if (group) {
      group.seriesIds.push(row.id);
      continue;
    }
    const kind = kindOf(row);
    const answer = { storeId, name: row.name, labels, kind, unit: row.unit, timestampsMs: [], values: [] };
    groups.set(identity, { seriesIds: [row.id], counter: row.kind === "counter", answer });
  }
  return [...groups.values()];
}

/** Where no aggregation was asked for, counters become rates and gauges means. */
function byAggregation(groups: readonly Group[], asked: Aggregation) {
  if (asked) return new Map([[asked as Exclude<Aggregation, Aggregation.UNSPECIFIED>, groups]]);
  return Map.groupBy(groups, ({ counter }) => (counter ? Aggregation.RATE : Aggregation.AVG));
}
