/** The two wire forms of samples, made one: runs of series. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { stringify } from "safe-stable-stringify";
import { uuidFromHash } from "../db/uuid.ts";
import {
  MetricKind,
  type Sample,
  SampleSchema,
  type SeriesSamples,
  SeriesSamplesSchema,
  type WriteSamplesRequest,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import type { FieldViolation } from "../rpc/errors.ts";
import { violationsOf } from "../rpc/validate.ts";
import { SampleBatch } from "./sample-batch.ts";
import type { SeriesCache, SeriesDefinition, WrittenSeries } from "./series-cache.ts";

/** An item that breaks a rule. */
export interface InvalidItem {
  readonly index: number;
  readonly plain: boolean;
  readonly sampleCount: number;
  readonly violations: readonly FieldViolation[];
}

export interface SampleRules {
  readonly tenantId: string;
  readonly receivedAtMs: number;
  /** Added to the sender's times. */
  readonly skewMs: number;
  readonly maxAgeMs: number;
  readonly maxAheadMs: number;
  /** Where a sample names no store. */
  readonly defaultStoreId: string;
}

/** Reads both forms; what breaks a rule is told apart. */
export function readItems(
  request: WriteSamplesRequest,
  rules: SampleRules,
  cache: SeriesCache,
): { batch: SampleBatch; invalid: InvalidItem[] } {
  const invalid: InvalidItem[] = [];
  const packedSize = request.series.reduce((sum, { values }) => sum + values.length, 0);
  const batch = new SampleBatch(packedSize + request.samples.length);
  request.series.forEach((packed, index) => {
    const violations = checkPacked(packed, rules);
    if (violations.length > 0) {
      const sampleCount = Math.max(packed.offsetsMs.length, 1);
      invalid.push({ index, plain: false, sampleCount, violations });
      return;
    }
    const base = packed.baseTime ? timestampMs(packed.baseTime) + rules.skewMs : 0;
    const { offsetsMs, values } = packed;
    for (let at = 0; at < values.length; at++)
      batch.add(base + (offsetsMs[at] as number), values[at] as number);
    batch.endRun(seriesOf(packed, rules, cache), 2 * index, values.length);
  });
  request.samples.forEach((sample, index) => {
    const violations = checkPlain(sample, rules);
    if (violations.length > 0) {
      invalid.push({ index, plain: true, sampleCount: 1, violations });
      return;
    }
    batch.add(timeOf(sample, rules), sample.value);
    batch.endRun(seriesOf(sample, rules, cache), 2 * index + 1, 1);
  });
  return { batch, invalid };
}

function timeOf({ timestamp }: Sample, rules: SampleRules): number {
  return timestamp ? timestampMs(timestamp) + rules.skewMs : rules.receivedAtMs;
}

function checkPlain(sample: Sample, rules: SampleRules): FieldViolation[] {
  const violations = violationsOf(SampleSchema, sample);
  if (violations.length > 0) return violations;
  return [...checkStore(sample, rules), ...checkTimes([timeOf(sample, rules)], rules, () => "timestamp")];
}

function checkPacked(packed: SeriesSamples, rules: SampleRules): FieldViolation[] {
  const violations = violationsOf(SeriesSamplesSchema, packed);
  if (violations.length > 0) return violations;
  violations.push(...checkStore(packed, rules));
  const { baseTime, offsetsMs, values } = packed;
  if (offsetsMs.length !== values.length) {
    const description = `has ${values.length} entries, offsets_ms has ${offsetsMs.length}; they must match`;
    violations.push({ field: "values", description, rule: "values.count" });
  }
  const broken = values.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0) {
    const description = "must be a finite number";
    violations.push({ field: `values[${broken}]`, description, rule: "double.finite" });
  }
  const base = baseTime ? timestampMs(baseTime) + rules.skewMs : Number.NaN;
  const times = offsetsMs.map((offset) => base + offset);
  return [...violations, ...checkTimes(times, rules, (index) => `offsets_ms[${index}]`)];
}

function checkStore({ storeId }: { storeId: string }, { defaultStoreId }: SampleRules): FieldViolation[] {
  if (storeId || defaultStoreId) return [];
  return [
    {
      field: "store_id",
      description: "is missing here, in the request and in the API key",
      rule: "required",
    },
  ];
}

function checkTimes(
  times: readonly number[],
  rules: SampleRules,
  field: (index: number) => string,
): FieldViolation[] {
  const oldest = rules.receivedAtMs - rules.maxAgeMs;
  const newest = rules.receivedAtMs + rules.maxAheadMs;
  const wrong = times.findIndex((time) => !(time >= oldest && time <= newest));
  if (wrong < 0) return [];
  const description = `must lie between ${isoDate(oldest)} and ${isoDate(newest)}`;
  return [{ field: field(wrong), description, rule: "timestamp.range" }];
}

function isoDate(ms: number): string {
  return new Date(ms).toISOString();
}

function seriesOf(item: Sample | SeriesSamples, rules: SampleRules, cache: SeriesCache): WrittenSeries {
  const { name, labels, kind, unit } = item;
  const storeId = item.storeId.toLowerCase() || rules.defaultStoreId;
  const key = JSON.stringify([storeId, name, labels]);
  return (
    cache.find(rules.tenantId, key) ??
    newSeries(rules.tenantId, key, storeId, { name, labels, kind: kindWord(kind), unit })
  );
}

export function kindWord(kind: MetricKind): SeriesDefinition["kind"] {
  return kind === MetricKind.COUNTER ? "counter" : "gauge";
}

const nothing: Uint8Array = new Uint8Array();

/** A series that is not known yet, to be remembered by `key` in `scope`. */
export function newSeries(
  scope: string,
  key: string,
  storeId: string,
  definition: SeriesDefinition,
  identity = nothing,
  plain = false,
): WrittenSeries {
  const id = uuidFromHash(stringify([storeId, definition.name, definition.labels]));
  return { id, storeId, ref: 0, definition, notedDay: 0, scope, key, identity, plain, next: undefined };
}
