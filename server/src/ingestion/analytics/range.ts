import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { GetAnalyticsRequest } from "../../gen/pulsewire/ingestion/v1/analytics_pb.js";
import { invalidField } from "../../rpc/errors.ts";
import { bucketOf, levelMs } from "../rollups/levels.ts";

/** A range in whole minutes, and the steps of its series. */
export interface AnalyticsRange {
  readonly startMs: number;
  readonly endMs: number;
  /** The level of the steps. */
  readonly stepLevel: number;
}

const minuteMs = 60_000;
const presets: Readonly<Record<string, number>> = {
  "15m": 15 * minuteMs,
  "1h": 60 * minuteMs,
  "24h": 1_440 * minuteMs,
  "7d": 10_080 * minuteMs,
};
const maxRangeMs = 400 * 1_440 * minuteMs;
const maxSteps = 100;

const minuteAfter = (ms: number): number => Math.ceil(ms / minuteMs) * minuteMs;

/** The range that a request means. Throws INVALID_FIELD. */
export function rangeOf(request: GetAnalyticsRequest, nowMs: number): AnalyticsRange {
  const { timeRange, start, end } = request;
  if (timeRange && (start || end)) {
    throw invalidField(start ? "start" : "end", "cannot be given together with time_range; give one of both");
  }
  if (!start) {
    if (end) throw invalidField("start", "is missing; give it together with end", "required");
    const endMs = minuteAfter(nowMs + 1);
    return withSteps(endMs - (presets[timeRange || "1h"] as number), endMs);
  }
  const startMs = bucketOf(0, timestampMs(start));
  const endMs = minuteAfter(end ? timestampMs(end) : nowMs + 1);
  if (endMs <= startMs) throw invalidField("end", "must be later than start");
  if (endMs - startMs > maxRangeMs) throw invalidField("end", "must be at most 400 days after start");
  return withSteps(startMs, endMs);
}

function withSteps(startMs: number, endMs: number): AnalyticsRange {
  const few = levelMs.findIndex((length) => (endMs - startMs) / length <= maxSteps);
  return { startMs, endMs, stepLevel: few < 0 ? levelMs.length - 1 : few };
}
