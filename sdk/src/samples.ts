import type { Place } from "./backlog.ts";
import { readFields } from "./message-reader.ts";
import { MessageWriter } from "./message-writer.ts";
import { accepted, readItemOutcome, type SendOutcome } from "./outcome.ts";
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
  labels: KeyParts[1];
  unit: string;
  /** A MetricKind. */
  kind: number;
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
      series = { key, name, labels, unit, kind: kind === "counter" ? 2 : 1, storeId };
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

/** The method that takes samples. */
export const writeSamples = "/pulsewire.metrics.v1.MetricsService/WriteSamples";

/** A WriteSamplesRequest of groups, each in the packed form. */
export function toSamplesRequest(
  groups: readonly Group[],
  samples: QueuedSample[],
  storeId: string,
): Uint8Array {
  const request = new MessageWriter();
  for (const group of groups) request.message(1, toSeriesSamples(group, samples));
  // Without `sentAt`: a correction that differs with each sending would turn a repeated sample into a new one.
  return request.text(3, storeId).flag(4, true).finish();
}

function toSeriesSamples({ series, indices, baseMs }: Group, samples: QueuedSample[]): Uint8Array {
  const { name, labels, unit, kind, storeId } = series;
  const own = indices.map((index) => samples[index] as QueuedSample);
  const message = new MessageWriter().text(1, name);
  for (const [label, value] of labels) {
    message.message(2, new MessageWriter().text(1, label).text(2, value).finish());
  }
  return message
    .integer(3, kind)
    .text(4, unit)
    .text(5, storeId)
    .timestamp(6, baseMs)
    .integers(
      7,
      own.map(({ timeMs }) => timeMs - baseMs),
    )
    .doubles(
      8,
      own.map(({ value }) => value),
    )
    .finish();
}

/** The outcome of each sample: that of its group where a WriteSamplesResponse names it, otherwise accepted. */
export function readSampleOutcomes(
  groups: readonly Group[],
  count: number,
  response: Uint8Array,
): SendOutcome[] {
  const outcomes = new Array<SendOutcome>(count).fill(accepted);
  readFields(response, (field, failure) => {
    if (field !== 2) return;
    let index = 0;
    let outcome: SendOutcome | undefined;
    readFields(failure.bytes, (part, value) => {
      if (part === 1) index = value.number;
      else if (part === 4) outcome = readItemOutcome(value.bytes);
    });
    if (outcome) for (const sample of groups[index]?.indices ?? []) outcomes[sample] = outcome;
  });
  return outcomes;
}
