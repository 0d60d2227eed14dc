/** Series that are in the table, by what they are recognised by, so that writing them again costs no query and no hash. */

/** A series as far as writing needs it. */
export interface WrittenSeries {
  /** Equal series have equal ids, wherever and whenever they are made. */
  readonly id: string;
  readonly storeId: string;
  /** What stored samples call it; 0 until the series is found in the table or made. */
  ref: number;
  /** What it is, to make it with; undefined once it is known. */
  definition: SeriesDefinition | undefined;
  /** The day since 1970 on which the series was last told to be active; 0 at first. */
  notedDay: number;
  /** What it is remembered by. */
  readonly key: string;
}

export interface SeriesDefinition {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly kind: "gauge" | "counter";
  readonly unit: string;
}

export interface SeriesCache {
  find(tenantId: string, key: string): WrittenSeries | undefined;
  /** Remembers a series whose `ref` is known. */
  add(tenantId: string, series: WrittenSeries): void;
}

type ByKey = Map<string, WrittenSeries>;

/**
 * Remembers about `size` series. Two generations instead of one order of use: what is found in the old one moves to the young one,
 * and when that holds half of the size, the old one is dropped. A find is one or two look-ups and nothing else.
 */
export function createSeriesCache(size: number): SeriesCache {
  let young = new Map<string, ByKey>();
  let old = new Map<string, ByKey>();
  let count = 0;

  const add = (tenantId: string, series: WrittenSeries) => {
    if (count >= size / 2) {
      old = young;
      young = new Map();
      count = 0;
    }
    let byKey = young.get(tenantId);
    if (!byKey) {
      byKey = new Map();
      young.set(tenantId, byKey);
    }
    byKey.set(series.key, series);
    count++;
  };
  return {
    find(tenantId, key) {
      const series = young.get(tenantId)?.get(key);
      if (series) return series;
      const aged = old.get(tenantId)?.get(key);
      if (aged) add(tenantId, aged);
      return aged;
    },
    add,
  };
}
