/** How the samples of a step become one point. */
import { Aggregation } from "../gen/pulsewire/metrics/v1/sample_pb.js";
import { lowerBound } from "./storage/columns.ts";
import { type Hour, hourMs, sumUp } from "./storage/rollup.ts";

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

/** Whether the points can be made of what hours come to. */
export function takesHours({ stepMs, aggregation }: Pick<Steps, "stepMs" | "aggregation">): boolean {
  return stepMs % hourMs === 0 && quantiles[aggregation] === undefined;
}

/** Gathers the samples of a group of series, series after series, in one point for each step that has samples. */
export class StepGroup {
  readonly #steps: Steps;
  readonly #buckets = new Map<number, Bucket>();
  /** The sample before, of the series that is being added. */
  #beforeMs = Number.NEGATIVE_INFINITY;
  #before = 0;

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  /** Points so far. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Begins a series; its samples follow, oldest first. */
  beginSeries(): void {
    this.#beforeMs = Number.NEGATIVE_INFINITY;
  }

  /** Hour by hour where steps are hours: so a sum is the same to the last bit, whether it is made of samples or of hours. */
  addSamples({ timestampsMs, values }: Samples): void {
    const { stepMs, startMs, aggregation } = this.#steps;
    const partMs = stepMs % hourMs === 0 ? hourMs : stepMs;
    const keepValues = quantiles[aggregation] !== undefined;
    let at = lowerBound(timestampsMs, startMs);
    if (at > 0) this.#remember(timestampsMs[at - 1] as number, values[at - 1] as number);
    while (at < timestampsMs.length) {
      const part = Math.floor((timestampsMs[at] as number) / partMs);
      const end = lowerBound(timestampsMs, (part + 1) * partMs, at);
      if (keepValues) {
        const bucket = this.#bucket(timestampsMs[at] as number);
        for (let index = at; index < end; index++) bucket.values.push(values[index] as number);
        bucket.count += end - at;
      } else if (aggregation === Aggregation.RATE && partMs !== hourMs) {
        this.#addIncreases(timestampsMs, values, at, end);
      } else {
        this.addPart(sumUp(timestampsMs, values, at, end));
      }
      at = end;
    }
  }

  /** Adds what the samples of a part of a step come to. */
  addPart(part: Omit<Hour, "startMs">): void {
    const bucket = this.#bucket(part.firstMs);
    bucket.count += part.count;
    if (this.#steps.aggregation === Aggregation.RATE) {
      bucket.sum += this.#increaseTo(part.firstMs, part.first);
      bucket.sum += part.growth;
    } else {
      bucket.sum += part.sum;
      if (part.min < bucket.min) bucket.min = part.min;
      if (part.max > bucket.max) bucket.max = part.max;
      if (part.lastMs >= bucket.lastMs) {
        bucket.lastMs = part.lastMs;
        bucket.last = part.last;
      }
    }
    this.#remember(part.lastMs, part.last);
  }

  #addIncreases(timestampsMs: Float64Array, values: Float64Array, from: number, to: number): void {
    const bucket = this.#bucket(timestampsMs[from] as number);
    for (let at = from; at < to; at++) {
      const [time, value] = [timestampsMs[at] as number, values[at] as number];
      bucket.sum += this.#increaseTo(time, value);
      this.#remember(time, value);
    }
    bucket.count += to - from;
  }

  /** A fall is a reset, counted from 0. What grew over a gap longer than the look-back cannot be told to a step, and is left out. */
  #increaseTo(time: number, value: number): number {
    if (time - this.#beforeMs > lookBackMs(this.#steps.stepMs)) return 0;
    return value >= this.#before ? value - this.#before : value;
  }

  #remember(time: number, value: number): void {
    this.#beforeMs = time;
    this.#before = value;
  }

  #bucket(ms: number): Bucket {
    const step = Math.floor(ms / this.#steps.stepMs);
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
