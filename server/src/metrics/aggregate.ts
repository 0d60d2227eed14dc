/** How the samples of a step become one point. */
import { Aggregation } from "../gen/pulsewire/metrics/v1/sample_pb.js";
import { lowerBound } from "./storage/columns.ts";

export type SetAggregation = Exclude<Aggregation, Aggregation.UNSPECIFIED>;

/** Samples of one series, oldest first. */
export interface Samples {
  readonly timestampsMs: Float64Array;
  readonly values: Float64Array;
}

/** Which steps: of `stepMs` each, beginning at multiples of it, over samples from `startMs` on. */
export interface Steps {
  readonly stepMs: number;
  readonly startMs: number;
  readonly aggregation: SetAggregation;
}

/** How far back the sample before the range is looked for that the first increase of a counter counts from. */
export function lookBackMs(stepMs: number): number {
  return Math.max(stepMs, minLookBackMs);
}

/** Scrapes are mostly a minute apart at the most; a few of them may be missing. */
const minLookBackMs = 300_000;

const quantiles: Partial<Record<SetAggregation, number>> = {
  [Aggregation.P50]: 0.5,
  [Aggregation.P95]: 0.95,
  [Aggregation.P99]: 0.99,
};

interface Bucket {
  count: number;
  sum: number;
  min: number;
  max: number;
  lastMs: number;
  last: number;
  /** Only for quantiles. */
  readonly values: number[];
}

/** Gathers the samples of a group of series, series after series, in one point for each step that has samples. */
export class StepGroup {
  readonly #steps: Steps;
  readonly #buckets = new Map<number, Bucket>();

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  /** Points so far. */
  get size(): number {
    return this.#buckets.size;
  }

  add(samples: Samples): void {
    if (this.#steps.aggregation === Aggregation.RATE) this.#addIncreases(samples);
    else this.#addValues(samples);
  }

  #bucket(step: number): Bucket {
    let bucket = this.#buckets.get(step);
    if (!bucket) {
      bucket = {
        count: 0,
        sum: 0,
        min: Number.POSITIVE_INFINITY,
        max: Number.NEGATIVE_INFINITY,
        lastMs: Number.NEGATIVE_INFINITY,
        last: 0,
        values: [],
      };
      this.#buckets.set(step, bucket);
    }
    return bucket;
  }

  #addValues({ timestampsMs, values }: Samples): void {
    const { stepMs, startMs, aggregation } = this.#steps;
    const keepValues = quantiles[aggregation] !== undefined;
    for (let at = lowerBound(timestampsMs, startMs); at < timestampsMs.length; ) {
      const step = Math.floor((timestampsMs[at] as number) / stepMs);
      const end = (step + 1) * stepMs;
      const bucket = this.#bucket(step);
      const first = at;
      let { sum, min, max } = bucket;
      for (; at < timestampsMs.length && (timestampsMs[at] as number) < end; at++) {
        const value = values[at] as number;
        sum += value;
        if (value < min) min = value;
        if (value > max) max = value;
        if (keepValues) bucket.values.push(value);
      }
      bucket.sum = sum;
      bucket.min = min;
      bucket.max = max;
      bucket.count += at - first;
      const lastMs = timestampsMs[at - 1] as number;
      if (lastMs >= bucket.lastMs) {
        bucket.lastMs = lastMs;
        bucket.last = values[at - 1] as number;
      }
    }
  }

  /** A fall is a reset, counted from 0. What grew over a gap longer than the look-back cannot be told to a step, and is left out. */
  #addIncreases({ timestampsMs, values }: Samples): void {
    const { stepMs, startMs } = this.#steps;
    const maxGapMs = lookBackMs(stepMs);
    for (let at = lowerBound(timestampsMs, startMs); at < timestampsMs.length; at++) {
      const time = timestampsMs[at] as number;
      const bucket = this.#bucket(Math.floor(time / stepMs));
      bucket.count++;
      if (at === 0 || time - (timestampsMs[at - 1] as number) > maxGapMs) continue;
      const [before, value] = [values[at - 1] as number, values[at] as number];
      bucket.sum += value >= before ? value - before : value;
    }
  }

  /** The points, oldest first: starts of steps, milliseconds since 1970, and values. */
  points(): { timestampsMs: number[]; values: number[] } {
    const { stepMs } = this.#steps;
    const steps = [...this.#buckets.keys()].sort((a, b) => a - b);
    return {
      timestampsMs: steps.map((step) => step * stepMs),
      values: steps.map((step) => this.#valueOf(this.#buckets.get(step) as Bucket)),
    };
  }

  #valueOf(bucket: Bucket): number {
    const { aggregation, stepMs } = this.#steps;
    switch (aggregation) {
      case Aggregation.AVG:
        return bucket.sum / bucket.count;
      case Aggregation.MIN:
        return bucket.min;
      case Aggregation.MAX:
        return bucket.max;
      case Aggregation.SUM:
        return bucket.sum;
      case Aggregation.COUNT:
        return bucket.count;
      case Aggregation.LAST:
        return bucket.last;
      case Aggregation.RATE:
        return bucket.sum / (stepMs / 1_000);
      default:
        return quantile(bucket.values, quantiles[aggregation] as number);
    }
  }
}

/** Between the two values next to it, as `percentile_cont` of SQL. */
function quantile(values: number[], fraction: number): number {
  const sorted = Float64Array.from(values).sort();
  const rank = fraction * (sorted.length - 1);
  const low = sorted[Math.floor(rank)] as number;
  const high = sorted[Math.ceil(rank)] as number;
  return low + (high - low) * (rank - Math.floor(rank));
}
