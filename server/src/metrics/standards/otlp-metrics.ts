/** Metrics of OpenTelemetry as series: names stay, attributes become labels, histograms and summaries take Prometheus' form. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { ExportMetricsServiceRequest } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.js";
import type { KeyValue } from "../../gen/opentelemetry/proto/common/v1/common_pb.js";
import {
  AggregationTemporality,
  DataPointFlags,
  type HistogramDataPoint,
  type Metric,
  type NumberDataPoint,
  type SummaryDataPoint,
} from "../../gen/opentelemetry/proto/metrics/v1/metrics_pb.js";
import { type Incoming, type IncomingSeries, labelName, metricName } from "./incoming.ts";
import { attributesOf, textOf, timeMs } from "./otlp-values.ts";

/** What all points of a metric have in common. */
interface Origin {
  readonly store: string;
  readonly labels: Record<string, string>;
  readonly name: string;
  readonly unit: string;
}

/** Where a point of any kind stands. */
interface Point {
  readonly attributes: readonly KeyValue[];
  readonly timeUnixNano: bigint;
  readonly flags: number;
}

export function readMetrics({ resourceMetrics }: ExportMetricsServiceRequest): Incoming {
  const incoming: Incoming = { series: [], refused: [] };
  for (const { resource, scopeMetrics } of resourceMetrics) {
    const about = attributesOf(resource?.attributes ?? []);
    const instance = textOf(about["service.instance.id"]);
    for (const { scope, metrics } of scopeMetrics) {
      const labels = {
        ...(instance && { instance }),
        ...(scope?.name && { otel_scope_name: scope.name }),
      };
      for (const metric of metrics) {
        const { name, unit } = metric;
        readMetric(metric, { store: storeOf(about), labels, name: metricName(name), unit }, incoming);
      }
    }
  }
  return incoming;
}

/** `pulsewire.store`, or the service with its namespace as Prometheus calls its job. */
function storeOf(about: JsonObject): string {
  const named = textOf(about["pulsewire.store"]);
  const service = textOf(about["service.name"]);
  const namespace = textOf(about["service.namespace"]);
  return named || (service && namespace ? `${namespace}/${service}` : service);
}

function readMetric({ data }: Metric, origin: Origin, { series, refused }: Incoming): void {
  const cumulative = AggregationTemporality.CUMULATIVE;
  const refuse = (samples: number, reason: string) =>
    refused.push({ samples, reason: `${origin.name}: ${reason}` });
  switch (data.case) {
    case "gauge":
      series.push(...data.value.dataPoints.filter(hasValue).map((point) => number(origin, point, "gauge")));
      return;
    case "sum": {
      const { dataPoints, aggregationTemporality, isMonotonic } = data.value;
      if (aggregationTemporality !== cumulative) return void refuse(dataPoints.length, wantsCumulative);
      const kind = isMonotonic ? "counter" : "gauge";
      series.push(...dataPoints.filter(hasValue).map((point) => number(origin, point, kind)));
      return;
    }
    case "histogram": {
      const { dataPoints, aggregationTemporality } = data.value;
      if (aggregationTemporality !== cumulative) return void refuse(dataPoints.length, wantsCumulative);
      series.push(...dataPoints.filter(hasValue).flatMap((point) => histogram(origin, point)));
      return;
    }
    case "summary":
      series.push(...data.value.dataPoints.filter(hasValue).flatMap((point) => summary(origin, point)));
      return;
    case "exponentialHistogram":
      refuse(
        data.value.dataPoints.length,
        "exponential histograms have no form here; use explicit buckets in a view",
      );
  }
}

const wantsCumulative = "the temporality must be cumulative, which exporters offer as a preference";

function hasValue({ flags }: Point): boolean {
  return (flags & DataPointFlags.FLAG_NO_RECORDED_VALUE) === 0;
}

type Part = Partial<Pick<IncomingSeries, "kind" | "unit">> & {
  readonly suffix?: string;
  readonly label?: Record<string, string>;
};

/** A series with the one value of a point. */
function one(origin: Origin, point: Point, value: number, part: Part): IncomingSeries {
  const { store, labels, name, unit } = origin;
  const own = Object.entries(attributesOf(point.attributes)).map(([key, each]) => [
    labelName(key),
    textOf(each),
  ]);
  return {
    store,
    name: `${name}${part.suffix ?? ""}`,
    labels: { ...labels, ...Object.fromEntries(own), ...part.label },
    kind: part.kind ?? "gauge",
    unit: part.unit ?? unit,
    timesMs: [timeMs(point.timeUnixNano) ?? Date.now()],
    values: [value],
  };
}

function number(origin: Origin, point: NumberDataPoint, kind: IncomingSeries["kind"]): IncomingSeries {
  return one(origin, point, Number(point.value.value ?? Number.NaN), { kind });
}

function histogram(origin: Origin, point: HistogramDataPoint): IncomingSeries[] {
  const { bucketCounts, explicitBounds, count, sum, min, max } = point;
  let below = 0n;
  const buckets = bucketCounts.map((inBucket, index) => {
    below += inBucket;
    const le = String(explicitBounds[index] ?? "+Inf");
    return one(origin, point, Number(below), {
      suffix: "_bucket",
      label: { le },
      kind: "counter",
      unit: "",
    });
  });
  const counted = one(origin, point, Number(count), { suffix: "_count", kind: "counter", unit: "" });
  const gauges = Object.entries({ min, max }).flatMap(([name, value]) =>
    value === undefined ? [] : [one(origin, point, value, { suffix: `_${name}` })],
  );
  const total = sum === undefined ? [] : [one(origin, point, sum, { suffix: "_sum", kind: "counter" })];
  return [...buckets, counted, ...total, ...gauges];
}

function summary(origin: Origin, point: SummaryDataPoint): IncomingSeries[] {
  const { quantileValues, count, sum } = point;
  return [
    ...quantileValues.map(({ quantile, value }) =>
      one(origin, point, value, { label: { quantile: String(quantile) } }),
    ),
    one(origin, point, Number(count), { suffix: "_count", kind: "counter", unit: "" }),
    one(origin, point, sum, { suffix: "_sum", kind: "counter" }),
  ];
}
