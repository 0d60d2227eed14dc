/** The two wire forms of samples, made one: series, each with its points. */
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

/** The identity of a series. Equal series have equal ids, wherever and whenever they are made. */
export interface SeriesKey {
  readonly id: string;
  readonly storeId: string;
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly kind: "gauge" | "counter";
  readonly unit: string;
}

/** An item of the request: one plain sample or one packed series. */
export interface SampleItem {
  readonly index: number;
  readonly plain: boolean;
  readonly series: SeriesKey;
  readonly timestampsMs: readonly number[];
  readonly values: readonly number[];
}

/** An item that breaks a rule. */
export interface InvalidItem {
  readonly index: number;
  readonly plain: boolean;
  readonly sampleCount: number;
  readonly violations: readonly FieldViolation[];
}

export interface SampleRules {
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
): { items: SampleItem[]; invalid: InvalidItem[] } {
  const items: SampleItem[] = [];
  const invalid: InvalidItem[] = [];
  const add = (item: SampleItem, violations: FieldViolation[]) => {
    const { index, plain } = item;
    const sampleCount = Math.max(item.timestampsMs.length, 1);
    if (violations.length > 0) invalid.push({ index, plain, sampleCount, violations });
    else items.push(item);
  };
  request.series.forEach((packed, index) => {
    const violations = violationsOf(SeriesSamplesSchema, packed);
    const item = readPacked(packed, index, rules);
    add(item, violations.length > 0 ? violations : checkPacked(packed, item, rules));
  });
  request.samples.forEach((sample, index) => {
    const violations = violationsOf(SampleSchema, sample);
    const item = readPlain(sample, index, rules);
    add(
      item,
      violations.length > 0 ? violations : [...checkStore(item), ...checkTimes(item, rules, "timestamp")],
    );
  });
  return { items, invalid };
}

function readPlain(sample: Sample, index: number, rules: SampleRules): SampleItem {
  const timestamp = sample.timestamp ? timestampMs(sample.timestamp) + rules.skewMs : rules.receivedAtMs;
  return {
    index,
    plain: true,
    series: seriesKey(sample, rules),
    timestampsMs: [timestamp],
    values: [withoutSubnormal(sample.value)],
  };
}

function readPacked(packed: SeriesSamples, index: number, rules: SampleRules): SampleItem {
  const base = packed.baseTime ? timestampMs(packed.baseTime) + rules.skewMs : Number.NaN;
  return {
    index,
    plain: false,
    series: seriesKey(packed, rules),
    timestampsMs: packed.offsetsMs.map((offset) => base + offset),
    values: packed.values.map(withoutSubnormal),
  };
}

const leastNormal = 2 ** -1022;

/** PostgreSQL refuses arithmetic whose result underflows, as it can only with subnormal numbers. */
function withoutSubnormal(value: number): number {
  return Math.abs(value) < leastNormal ? 0 : value;
}

function checkPacked(packed: SeriesSamples, item: SampleItem, rules: SampleRules): FieldViolation[] {
  const violations = checkStore(item);
  if (packed.offsetsMs.length !== packed.values.length) {
    const description = `has ${packed.values.length} entries, offsets_ms has ${packed.offsetsMs.length}; they must match`;
    violations.push({ field: "values", description, rule: "values.count" });
  }
  const broken = packed.values.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0) {
    violations.push({
      field: `values[${broken}]`,
      description: "must be a finite number",
      rule: "double.finite",
    });
  }
  return [...violations, ...checkTimes(item, rules, "offsets_ms")];
}

function checkStore({ series }: SampleItem): FieldViolation[] {
  if (series.storeId !== "") return [];
  return [
    {
      field: "store_id",
      description: "is missing here, in the request and in the API key",
      rule: "required",
    },
  ];
}

function checkTimes(item: SampleItem, rules: SampleRules, field: string): FieldViolation[] {
  const oldest = rules.receivedAtMs - rules.maxAgeMs;
  const newest = rules.receivedAtMs + rules.maxAheadMs;
  const wrong = item.timestampsMs.findIndex((time) => !(time >= oldest && time <= newest));
  if (wrong < 0) return [];
  const description = `must lie between ${isoDate(oldest)} and ${isoDate(newest)}`;
  return [{ field: item.plain ? field : `${field}[${wrong}]`, description, rule: "timestamp.range" }];
}

function isoDate(ms: number): string {
  return new Date(ms).toISOString();
}

function seriesKey(item: Sample | SeriesSamples, rules: SampleRules): SeriesKey {
  const storeId = item.storeId || rules.defaultStoreId;
  return {
    id: uuidFromHash(stringify([storeId, item.name, item.labels])),
    storeId,
    name: item.name,
    labels: item.labels,
    kind: item.kind === MetricKind.COUNTER ? "counter" : "gauge",
    unit: item.unit,
  };
}
