import type { WrittenSeries } from "./series-cache.ts";

/** The contract has it so: what is nearer to 0 is stored as 0. */
const leastNormal = 2 ** -1022;

/** The samples of one call, checked, in columns: runs of samples of one series, one after the other. */
export class SampleBatch {
  /** The series of each run. */
  readonly series: WrittenSeries[] = [];
  /** Samples of each run. */
  readonly counts: number[] = [];
  /** The item of the request that each run came from: twice its index, plus 1 for one of `samples`. */
  readonly items: number[] = [];
  /** Times and values of all samples; only the first `size` are used. */
  times: Float64Array;
  values: Float64Array;
  size = 0;

  /** Begins with room for so many samples. */
  constructor(room: number) {
    this.times = new Float64Array(room);
    this.values = new Float64Array(room);
  }

  /** Makes room for so many further samples. */
  reserve(samples: number): void {
    if (this.size + samples <= this.times.length) return;
    const grow = (column: Float64Array) => {
      const grown = new Float64Array(2 * column.length + samples);
      grown.set(column);
      return grown;
    };
    this.times = grow(this.times);
    this.values = grow(this.values);
  }

  /** Adds a sample to the run that `endRun` will end. */
  add(timeMs: number, value: number): void {
    this.times[this.size] = timeMs;
    this.values[this.size++] = Math.abs(value) < leastNormal ? 0 : value;
  }

  endRun(series: WrittenSeries, item: number, count: number): void {
    this.series.push(series);
    this.items.push(item);
    this.counts.push(count);
  }

  /** A copy without some runs. */
  without(runs: { has(run: number): boolean }): SampleBatch {
    const rest = new SampleBatch(this.size);
    let at = 0;
    this.series.forEach((series, run) => {
      const count = this.counts[run] as number;
      if (!runs.has(run)) {
        for (let index = at; index < at + count; index++)
          rest.add(this.times[index] as number, this.values[index] as number);
        rest.endRun(series, this.items[run] as number, count);
      }
      at += count;
    });
    return rest;
  }

  /** The stores that the samples are of. */
  storeIds(): Set<string> {
    const ids = new Set<string>();
    let last = "";
    for (const { storeId } of this.series) {
      if (storeId === last) continue;
      ids.add(storeId);
      last = storeId;
    }
    return ids;
  }
}

/** The samples of one call and whether some may be written without the others. */
export interface SampleCall {
  readonly batch: SampleBatch;
  readonly allowPartial: boolean;
}

/** Why a run was not written. */
export type Refusal = "NOT_FOUND" | "TENANT_LIMIT";

/** What became of a call. */
export interface SampleResult {
  /** Series that the call made. */
  newSeries: number;
  /** By number of the run. Without `allowPartial` nothing was written where there is one. */
  readonly refused: Map<number, Refusal>;
}

/** A call in the making of a flush. */
export type PendingCall = SampleCall & { readonly result: SampleResult };

/** Whether anything of a call is to be written. */
export function isWritten({ allowPartial, result }: PendingCall): boolean {
  return allowPartial || result.refused.size === 0;
}
