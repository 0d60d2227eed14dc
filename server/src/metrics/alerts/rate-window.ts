/** The change of a series over a window that ends with its latest sample. */
export interface RateWindow {
  /**
   * Takes in a sample; one that is not later than those before is passed over. The change a second; undefined while too little
   * of the window is known.
   */
  add(atMs: number, value: number): number | undefined;
  /** Whether no sample was taken in yet. */
  readonly isEmpty: boolean;
}

/** How many points stand for a window at most: a long one of a fast series is remembered coarsely. */
const pointsPerWindow = 256;

interface Point {
  readonly atMs: number;
  readonly total: number;
}

/**
 * @param isCounter a fall is a new beginning at 0, not a change
 */
export function createRateWindow(windowMs: number, isCounter: boolean): RateWindow {
  const bucketMs = Math.max(1, windowMs / pointsPerWindow);
  const points: Point[] = [];
  let last: number | undefined;
  let lastMs = Number.NEGATIVE_INFINITY;
  let total = 0;
  return {
    get isEmpty() {
      return last === undefined;
    },
    add(atMs, value) {
      if (atMs <= lastMs) return undefined;
      lastMs = atMs;
      if (isCounter) total += last === undefined ? 0 : value < last ? value : value - last;
      else total = value;
      last = value;
      const startMs = atMs - windowMs;
      // The last point at or before the start stands for the value there.
      while (points.length > 1 && (points[1] as Point).atMs <= startMs) points.shift();
      const base = points[0];
      const newest = points.at(-1);
      if (!newest || Math.floor(newest.atMs / bucketMs) !== Math.floor(atMs / bucketMs))
        points.push({ atMs, total });
      if (!base || atMs <= base.atMs) return undefined;
      const spanMs = atMs - base.atMs;
      // Half a window is enough to speak of; of what lies twice as far back nothing follows for now.
      if (spanMs < windowMs / 2 || spanMs > windowMs * 2) return undefined;
      return ((total - base.total) / spanMs) * 1_000;
    },
  };
}
