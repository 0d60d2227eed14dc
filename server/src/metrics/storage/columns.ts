/**
 * Samples in columns: runs of samples of one series, one after the other, with their times and values in two arrays. What a
 * call writes, what a flush stores and what the compaction reads are all this.
 */
export interface SampleColumns {
  /** The series of each run; see `series.ref`. The same series may come again. */
  readonly refs: readonly number[];
  /** Samples of each run. */
  readonly counts: readonly number[];
  /** Milliseconds since 1970 of each sample, run after run, in any order. */
  readonly times: Float64Array;
  readonly values: Float64Array;
}

/** The samples of one series, oldest first, one for each time. */
export interface SeriesRun {
  readonly ref: number;
  readonly times: Float64Array;
  readonly values: Float64Array;
}

/** The earliest and the latest of some times. */
export function rangeOf(times: Float64Array): { minMs: number; maxMs: number } {
  let minMs = Number.POSITIVE_INFINITY;
  let maxMs = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < times.length; index++) {
    const time = times[index] as number;
    if (time < minMs) minMs = time;
    if (time > maxMs) maxMs = time;
  }
  return { minMs, maxMs };
}

/** A part of a series somewhere in columns, in the order in which it was written. */
export interface Piece {
  readonly times: Float64Array;
  readonly values: Float64Array;
  readonly from: number;
  readonly to: number;
}

/** Puts pieces together, earlier written ones first: sorted by time, and of equal times the sample written last. */
export function joinPieces(pieces: readonly Piece[]): { times: Float64Array; values: Float64Array } {
  const [first] = pieces;
  if (first && pieces.length === 1 && isAscending(first.times, first.from, first.to)) {
    return {
      times: first.times.subarray(first.from, first.to),
      values: first.values.subarray(first.from, first.to),
    };
  }
  const size = pieces.reduce((sum, { from, to }) => sum + to - from, 0);
  const times = new Float64Array(size);
  const values = new Float64Array(size);
  let position = 0;
  for (const piece of pieces) {
    if (piece.to - piece.from === 1) {
      times[position] = piece.times[piece.from] as number;
      values[position++] = piece.values[piece.from] as number;
      continue;
    }
    times.set(piece.times.subarray(piece.from, piece.to), position);
    values.set(piece.values.subarray(piece.from, piece.to), position);
    position += piece.to - piece.from;
  }
  return isAscending(times, 0, size) ? { times, values } : sortUnique(times, values);
}

function isAscending(times: Float64Array, from: number, to: number): boolean {
  for (let index = from + 1; index < to; index++) {
    if ((times[index] as number) <= (times[index - 1] as number)) return false;
  }
  return true;
}

function sortUnique(times: Float64Array, values: Float64Array) {
  const order = Uint32Array.from(times, (_, index) => index);
  order.sort((a, b) => (times[a] as number) - (times[b] as number) || a - b);
  const sortedTimes = new Float64Array(times.length);
  const sortedValues = new Float64Array(times.length);
  let size = 0;
  for (const index of order) {
    const time = times[index] as number;
    if (size > 0 && sortedTimes[size - 1] === time) size--;
    sortedTimes[size] = time;
    sortedValues[size++] = values[index] as number;
  }
  return { times: sortedTimes.subarray(0, size), values: sortedValues.subarray(0, size) };
}

/** The first index in `from`–`to` of a time at or after `ms`, or `to`. Times ascend. */
export function lowerBound(times: Float64Array, ms: number, from = 0, to = times.length): number {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((times[middle] as number) < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
