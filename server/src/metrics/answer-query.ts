import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { TenantTransaction } from "../db/tenant.ts";
import {
  Aggregation,
  type QuerySamplesRequest,
  type QuerySamplesResponseSchema,
  type SeriesPointsSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import type { Caller } from "../rpc/caller.ts";
import { invalidField, notFound } from "../rpc/errors.ts";
import { lookBackMs, StepGroup, takesHours } from "./aggregate.ts";
import { kindOf } from "./messages.ts";
import { readSeries, readSeriesParts, type SeriesParts } from "./read.ts";
import { hourMs } from "./storage/rollup.ts";
import { getStore, listSeries, type SeriesRow } from "./store.ts";

const defaultRangeMs = 3_600_000;
const defaultMaxPoints = 11_000;
const maxSeries = 10_000;
/** Samples that are read at a time, as far as that can be foreseen: bounds the memory of a query. */
const samplesPerRead = 4_000_000;
const expectedIntervalMs = 10_000;
/** Samples that a query may read in all. */
const maxSamplesRead = 50_000_000;

type SeriesPoints = MessageInitShape<typeof SeriesPointsSchema> & {
  timestampsMs: number[];
  values: number[];
};

/** Reads the points that a query asks for. The transaction must be repeatable read. */
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
  const series = await listSeries(trx, tenantId, { storeId, name, nameContains: "", labels }, maxSeries + 1);
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
  const range = { startMs: start.getTime(), endMs: end.getTime() };
  const budget = createBudget(request.maxPoints || defaultMaxPoints);
  if (stepMs === undefined) await readRaw(trx, tenantId, groups, range, budget);
  else await readSteps(trx, tenantId, groups, { ...range, stepMs }, request.aggregation, budget);
  return {
    series: groups.map(({ answer }) => answer).filter(({ values }) => values.length > 0),
    start: timestampFromDate(start),
    end: timestampFromDate(end),
  };
}

interface Range {
  readonly startMs: number;
  readonly endMs: number;
}

/** Counts what a query costs and refuses what is too much. */
function createBudget(maxPoints: number) {
  let samples = 0;
  return {
    read(count: number) {
      samples += count;
      if (samples <= maxSamplesRead) return;
      throw invalidField(
        "end",
        `more than ${maxSamplesRead.toLocaleString("en-US")} samples lie in the range; ask for fewer series or a shorter range`,
        "range",
      );
    },
    answer(points: number) {
      if (points <= maxPoints) return;
      throw invalidField(
        "max_points",
        `the answer has more than ${maxPoints} points; take a longer step`,
        "range",
      );
    },
  };
}

type Budget = ReturnType<typeof createBudget>;

/** Every series for itself; raw samples are never grouped. */
async function readRaw(
  trx: TenantTransaction,
  tenantId: string,
  groups: readonly Group[],
  { startMs, endMs }: Range,
  budget: Budget,
): Promise<void> {
  const answers = new Map(groups.flatMap(({ series, answer }) => series.map(({ id }) => [id, answer])));
  let points = 0;
  for (const part of partsOf(groups, endMs - startMs, expectedIntervalMs)) {
    for (const { series, timestampsMs, values } of await readSeries(trx, tenantId, part, startMs, endMs)) {
      points += values.length;
      budget.answer(points);
      const answer = answers.get(series.id) as SeriesPoints;
      answer.timestampsMs = Array.from(timestampsMs);
      answer.values = Array.from(values);
    }
  }
}

async function readSteps(
  trx: TenantTransaction,
  tenantId: string,
  groups: readonly Group[],
  { startMs, endMs, stepMs }: Range & { stepMs: number },
  asked: Aggregation,
  budget: Budget,
): Promise<void> {
  const gathered = groups.map(({ series, counter, answer }) => {
    // Where nothing was asked for, counters become rates and gauges means.
    const aggregation = asked || (counter ? Aggregation.RATE : Aggregation.AVG);
    return { series, answer, steps: new StepGroup({ stepMs, startMs, aggregation }), aggregation };
  });
  const groupOf = new Map(gathered.flatMap((group) => group.series.map(({ id }) => [id, group])));
  const fromMs = gathered.some(({ aggregation }) => aggregation === Aggregation.RATE)
    ? startMs - lookBackMs(stepMs)
    : startMs;
  const byHours = gathered.every(({ aggregation }) => takesHours({ stepMs, aggregation }));
  let points = 0;
  for (const some of partsOf(groups, endMs - fromMs, byHours ? hourMs : expectedIntervalMs)) {
    for (const { series, parts } of byHours
      ? await readSeriesParts(trx, tenantId, some, fromMs, endMs, startMs)
      : await readAsParts(trx, tenantId, some, fromMs, endMs)) {
      const { steps } = groupOf.get(series.id) as (typeof gathered)[number];
      points -= steps.size;
      steps.beginSeries();
      for (const part of parts) {
        budget.read(part.hours ? part.hours.length : part.values.length);
        if (part.hours) for (const hour of part.hours) steps.addPart(hour);
        else steps.addSamples({ timestampsMs: part.times, values: part.values });
      }
      points += steps.size;
      budget.answer(points);
    }
  }
  for (const { answer, steps } of gathered) {
    const { timestampsMs, values } = steps.points();
    if (!values.every(Number.isFinite)) {
      throw invalidField(
        "aggregation",
        "the result is beyond the range of a double; ask for max or last",
        "range",
      );
    }
    answer.timestampsMs = timestampsMs;
    answer.values = values;
  }
}

async function readAsParts(...query: Parameters<typeof readSeries>): Promise<SeriesParts[]> {
  return (await readSeries(...query)).map(({ series, timestampsMs, values }) => ({
    series,
    parts: [{ times: timestampsMs, values }],
  }));
}

/** The series in parts of which each can be read at a time. */
function* partsOf(groups: readonly Group[], rangeMs: number, intervalMs: number): Generator<SeriesRow[]> {
  const series = groups.flatMap((group) => group.series);
  const size = Math.max(16, Math.floor(samplesPerRead / Math.max(1, rangeMs / intervalMs)));
  for (let from = 0; from < series.length; from += size) yield series.slice(from, from + size);
}

interface Group {
  readonly series: SeriesRow[];
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
      group.series.push(row);
      continue;
    }
    const kind = kindOf(row);
    const answer = { storeId, name: row.name, labels, kind, unit: row.unit, timestampsMs: [], values: [] };
    groups.set(identity, { series: [row], counter: row.kind === "counter", answer });
  }
  return [...groups.values()];
}
