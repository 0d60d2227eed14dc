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
  /** What it is remembered by: a key within its scope, which is of one tenant. */
  readonly scope: string;
  readonly key: string;
  /** The bytes that say what it is, where it was read from bytes: those of a plain sample or of a packed series. */
  readonly identity: Uint8Array;
  readonly plain: boolean;
  /** The series that came after it last time: senders keep their order, so that it is looked at first. */
  next: WrittenSeries | undefined;
}

export interface SeriesDefinition {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly kind: "gauge" | "counter";
  readonly unit: string;
}

export interface SeriesCache {
  /** The scope of a tenant's series where a store is the default; always the same string, so that comparing it costs nothing. */
  scopeOf(tenantId: string, defaultStoreId: string): string;
  find(scope: string, key: string): WrittenSeries | undefined;
  /** Remembers a series whose `ref` is known. */
  add(series: WrittenSeries): void;
}

const maxScopes = 10_000;

type ByKey = Map<string, WrittenSeries>;

/**
 * Remembers about `size` series. Two generations instead of one order of use: what is found in the old one moves to the young one,
 * and when that holds half of the size, the old one is dropped. A find is one or two look-ups and nothing else.
 */
export function createSeriesCache(size: number): SeriesCache {
  let young = new Map<string, ByKey>();
  let old = new Map<string, ByKey>();
  let count = 0;
  const scopes = new Map<string, string>();

  const add = (series: WrittenSeries) => {
    if (count >= size / 2) {
      old = young;
      young = new Map();
      count = 0;
    }
    let byKey = young.get(series.scope);
    if (!byKey) {
      byKey = new Map();
      young.set(series.scope, byKey);
    }
    byKey.set(series.key, series);
    count++;
  };
  return {
    scopeOf(tenantId, defaultStoreId) {
      const scope = tenantId + defaultStoreId;
      const known = scopes.get(scope);
      if (known !== undefined) return known;
      if (scopes.size >= maxScopes) scopes.clear();
      scopes.set(scope, scope);
      return scope;
    },
    find(scope, key) {
      const series = young.get(scope)?.get(key);
      if (series) return series;
      const aged = old.get(scope)?.get(key);
      if (aged) add(aged);
      return aged;
    },
    add,
  };
}
