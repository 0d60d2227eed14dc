/** What is known of a period without looking at its entries: events by type, and metrics. */

/** Named numbers of events of one type, added up. */
export interface MetricSum {
  count: number;
  sum: number;
  min: number;
  max: number;
  last: number;
  /** When the event of `last` happened, milliseconds since 1970. */
  lastMs: number;
}

/** A period; types and metrics by the numbers of their names. */
export interface Summary {
  readonly types: Map<number, number>;
  /** By type, then by metric. */
  readonly metrics: Map<number, Map<number, MetricSum>>;
  /** All events of the period have ids between these; others may, too. */
  firstId: string;
  lastId: string;
}

export function emptySummary(): Summary {
  return { types: new Map(), metrics: new Map(), firstId: "", lastId: "" };
}

export function addCount(summary: Summary, type: number, count: number): void {
  summary.types.set(type, (summary.types.get(type) ?? 0) + count);
}

export function widen(summary: Summary, firstId: string, lastId: string): void {
  if (firstId && (summary.firstId === "" || firstId < summary.firstId)) summary.firstId = firstId;
  if (lastId > summary.lastId) summary.lastId = lastId;
}

/** Adds one value that an event had. */
export function addMetric(
  summary: Summary,
  type: number,
  metric: number,
  value: number,
  timeMs: number,
): void {
  addSum(summary, type, metric, {
    count: 1,
    sum: value,
    min: value,
    max: value,
    last: value,
    lastMs: timeMs,
  });
}

/** Of two that happened in the same millisecond the greater value is the last, so that the order of adding is no matter. */
export function addSum(summary: Summary, type: number, metric: number, added: MetricSum): void {
  let sums = summary.metrics.get(type);
  if (!sums) {
    sums = new Map();
    summary.metrics.set(type, sums);
  }
  const known = sums.get(metric);
  if (!known) {
    sums.set(metric, { ...added });
    return;
  }
  known.count += added.count;
  known.sum = finite(known.sum + added.sum);
  if (added.min < known.min) known.min = added.min;
  if (added.max > known.max) known.max = added.max;
  if (added.lastMs > known.lastMs || (added.lastMs === known.lastMs && added.last > known.last)) {
    known.last = added.last;
    known.lastMs = added.lastMs;
  }
}

/** JSON has no infinity. */
function finite(value: number): number {
  return Math.min(Math.max(value, -Number.MAX_VALUE), Number.MAX_VALUE);
}

export function addSummary(to: Summary, added: Summary): void {
  for (const [type, count] of added.types) addCount(to, type, count);
  for (const [type, sums] of added.metrics) for (const [metric, sum] of sums) addSum(to, type, metric, sum);
  widen(to, added.firstId, added.lastId);
}

type MetricTuple = [
  type: number,
  metric: number,
  count: number,
  sum: number,
  min: number,
  max: number,
  last: number,
  lastMs: number,
];

/** As the table has it. */
interface SummaryJson {
  t: [type: number, count: number][];
  m?: MetricTuple[];
  ids: [first: string, last: string];
}

export function encodeSummary({ types, metrics, firstId, lastId }: Summary): string {
  const json: SummaryJson = { t: [...types], ids: [firstId, lastId] };
  if (metrics.size > 0) {
    json.m = [...metrics].flatMap(([type, sums]) =>
      [...sums].map(
        ([metric, { count, sum, min, max, last, lastMs }]): MetricTuple => [
          type,
          metric,
          count,
          sum,
          min,
          max,
          last,
          lastMs,
        ],
      ),
    );
  }
  return JSON.stringify(json);
}

export function decodeSummary(value: unknown): Summary {
  const { t, m = [], ids } = value as SummaryJson;
  const summary: Summary = { types: new Map(t), metrics: new Map(), firstId: ids[0], lastId: ids[1] };
  for (const [type, metric, count, sum, min, max, last, lastMs] of m) {
    addSum(summary, type, metric, { count, sum, min, max, last, lastMs });
  }
  return summary;
}
