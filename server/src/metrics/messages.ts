import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { etagOf } from "../auth/ids.ts";
import {
  type Metric,
  MetricKind,
  MetricSchema,
  type Series,
  SeriesSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import { type Store, StoreSchema } from "../gen/pulsewire/metrics/v1/store_pb.js";
import type { MetricRow, SeriesRow, StoreRow } from "./store.ts";

/** How often a store is expected to send where it was not said. */
export const defaultExpectedIntervalMs = 60_000;

export function storeMessage(row: StoreRow): Store {
  return create(StoreSchema, {
    id: row.id,
    name: row.name,
    description: row.description,
    expectedInterval: durationFromMs(Number(row.expected_interval_ms ?? defaultExpectedIntervalMs)),
    labels: row.labels,
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    etag: etagOf(row.updated_at),
  });
}

export function seriesMessage(row: SeriesRow): Series {
  return create(SeriesSchema, {
    id: row.id,
    storeId: row.store_id,
    name: row.name,
    labels: row.labels,
    kind: kindOf(row),
    unit: row.unit,
    createdAt: timestampFromDate(row.created_at),
  });
}

export function metricMessage(row: MetricRow): Metric {
  return create(MetricSchema, {
    name: row.name,
    kind: kindOf(row),
    unit: row.unit,
    seriesCount: row.series_count,
  });
}

export function kindOf({ kind }: Pick<SeriesRow, "kind">): MetricKind {
  return kind === "counter" ? MetricKind.COUNTER : MetricKind.GAUGE;
}
