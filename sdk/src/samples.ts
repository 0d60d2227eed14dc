import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Place } from "./backlog.ts";
import {
  MetricKind,
  type SeriesSamples,
  SeriesSamplesSchema,
  type WriteSamplesResponse,
} from "./gen/pulsewire/metrics/v1/sample_pb.js";
import { accepted, fromItemOutcome, type SendOutcome } from "./outcome.ts";
import type { Item } from "./queue.ts";

/** What belongs to a sample besides its name and value. */
export interface SampleOptions {
  /** What tells this series from others of the same name. At most 32. */
  labels?: Record<string, string>;
  /** Unit, such as `percent` or `bytes`. At most 50 characters; kept from a series' first sample. */
  unit?: string;
  /** `gauge` goes up and down, `counter` only grows. Default `gauge`; kept from a series' first sample. */
  kind?: "gauge" | "counter";
  /** When it was measured: a Date or milliseconds since 1970, at most 30 days ago. Default: now. */
  timestamp?: Date | number;
  /** The store. Default: that of the gateway, or else of the API key. */
  storeId?: string;
}

/** A series and the text that tells it from others. */
interface SeriesKey {
  key: string;
  name: string;
  labels: Record<string, string>;
  unit: string;
  kind: MetricKind;
  storeId: string;
}

/** What the text of a key holds. */
type KeyParts = [name: string, labels: [string, string][], unit: string, kind: string, storeId: string];

/** A sample that waits to be sent. */
export class QueuedSample implements Item {
  readonly series: SeriesKey;
  /** Milliseconds since 1970, whole. */
  readonly timeMs: number;
  readonly value: number;
  sequence = 0;
  place: Place | undefined = undefined;

  constructor(series: SeriesKey, timeMs: number, value: number) {
    this.series = series;
    this.timeMs = timeMs;
    this.value = value;
  }

  /** As much as it takes where no other shares its series. */
  get size(): number {
    return sampleBytes + this.series.key.length;
  }
}

/** A group of samples that is sent as one item, and which samples of the batch they are. */
interface Group {
  series: SeriesKey;
  /** Indices in the batch. */
  indices: number[];
  /** The earliest time. */
  baseMs: number;
}

/** Keys of series are made anew past this many, so that labels without end do not fill the memory. */
const maxKnownSeries = 10_000;

/** Bytes of a value with its time, and of what frames them where a series has one sample only. */
const sampleBytes = 32;

/** An hour in milliseconds. */
const groupSpanMs = 3_600_000;

/** Makes samples; samples of one series share their name and labels in memory. */
export class SamplePacker {
  readonly #known = new Map<string, SeriesKey>();

  /** @throws TypeError where a label is no text or the time is none */
  pack(name: string, value: number, options: SampleOptions): QueuedSample {
    const { labels = {}, unit = "", kind = "gauge", timestamp, storeId = "" } = options;
    const timeMs = timestamp === undefined ? Date.now() : Math.trunc(Number(timestamp));
    if (!Number.isFinite(timeMs)) throw new TypeError(`The timestamp of "${name}" is no time.`);
    const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [label, text] of sorted) {
      if (typeof text !== "string") throw new TypeError(`Label "${label}" of "${name}" is no text.`);
    }
    const series = this.seriesOf(JSON.stringify([name, sorted, unit, kind, storeId]));
    return new QueuedSample(series, timeMs, value);
  }

  /** The series with this key. */
  seriesOf(key: string): SeriesKey {
    let series = this.#known.get(key);
    if (!series) {
      if (this.#known.size >= maxKnownSeries) this.#known.clear();
      const [name, labels, unit, kind, storeId] = JSON.parse(key) as KeyParts;
      const metricKind = kind === "counter" ? MetricKind.COUNTER : MetricKind.GAUGE;
      series = { key, name, labels: Object.fromEntries(labels), unit, kind: metricKind, storeId };
      this.#known.set(key, series);
    }
    return series;
  }
}

/**
 * Puts the samples of a series together. The server judges such a group as one, so only samples within the same
 * hour share one: a clock that was once wrong does not take good samples with it.
 */
export function groupSamples(samples: QueuedSample[]): Group[] {
  const groups = new Map<string, Group>();
  for (const [index, { series, timeMs }] of samples.entries()) {
    const key = `${Math.floor(timeMs / groupSpanMs)} ${series.key}`;
    const group = groups.get(key);
    if (!group) {
      groups.set(key, { series, indices: [index], baseMs: timeMs });
    } else {
      group.indices.push(index);
      group.baseMs = Math.min(group.baseMs, timeMs);
    }
  }
  return [...groups.values()];
}

/** A group in the packed form. */
export function toSeriesSamples({ series, indices, baseMs }: Group, samples: QueuedSample[]): SeriesSamples {
  const { name, labels, unit, kind, storeId } = series;
  const own = indices.map((index) => samples[index] as QueuedSample);
  return create(SeriesSamplesSchema, {
    name,
    labels,
    unit,
    kind,
    storeId,
    baseTime: timestampFromMs(baseMs),
    offsetsMs: own.map(({ timeMs }) => timeMs - baseMs),
    values: own.map(({ value }) => value),
  });
}

/** The outcome of each sample: that of its group where the server names it, otherwise accepted. */
export function toSampleOutcomes(
  groups: Group[],
  count: number,
  { failures }: WriteSamplesResponse,
): SendOutcome[] {
  const outcomes = new Array<SendOutcome>(count).fill(accepted);
  for (const { index, outcome } of failures) {
    if (!outcome) continue;
    for (const sample of groups[index]?.indices ?? []) outcomes[sample] = fromItemOutcome(outcome);
  }
  return outcomes;
}
