/**
 * Reads Prometheus remote write, both message formats, by the field numbers of the published schemas:
 * prometheus.WriteRequest (specification 1.0) and io.prometheus.write.v2.Request (2.0), see
 * https://prometheus.io/docs/specs/prw/remote_write_spec/ and .../remote_write_spec_2_0/. No package offers both.
 */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { type Incoming, type IncomingSeries, labelName, metricName } from "./incoming.ts";

/** Metric types of the metadata, the same numbers in both formats. */
const types = ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

interface Metadata {
  type: string;
  unit: string;
}

/** A series as it lies in the message. */
interface RawSeries {
  readonly labels: [string, string][];
  readonly timesMs: number[];
  readonly values: number[];
  histograms: number;
  metadata: Metadata | undefined;
}

type Fields = (field: number, reader: BinaryReader) => boolean;

/** Reads a message of `length` bytes; `take` reads the fields that it knows and says whether it did. */
function read(reader: BinaryReader, length: number, take: Fields): void {
  const end = reader.pos + length;
  while (reader.pos < end) {
    const [field, wire] = reader.tag();
    if (!take(field, reader)) reader.skip(wire, field);
  }
  if (reader.pos !== end) throw new RangeError("a message is longer than it says");
}

/** Reads the message that a tag announces. */
const inner = (reader: BinaryReader, take: Fields) => read(reader, reader.uint32(), take);

const nothing = (): RawSeries => ({
  labels: [],
  timesMs: [],
  values: [],
  histograms: 0,
  metadata: undefined,
});

function sample(reader: BinaryReader, { timesMs, values }: RawSeries): true {
  let value = 0;
  let time = 0;
  inner(reader, (field) => {
    if (field === 1) value = reader.double();
    else if (field === 2) time = Number(reader.int64());
    else return false;
    return true;
  });
  timesMs.push(time);
  values.push(value);
  return true;
}

function histogram(reader: BinaryReader, series: RawSeries): true {
  reader.skip(WireType.LengthDelimited);
  series.histograms++;
  return true;
}

/** Reads a prometheus.WriteRequest. Throws where the bytes are none. */
export function readWriteRequest(bytes: Uint8Array): Incoming {
  const all: RawSeries[] = [];
  const families = new Map<string, Metadata>();
  const reader = new BinaryReader(bytes);
  read(reader, bytes.length, (field) => {
    if (field === 1) {
      const series = nothing();
      inner(reader, (field) => {
        if (field === 1) return label(reader, series);
        if (field === 2) return sample(reader, series);
        return field === 4 && histogram(reader, series);
      });
      all.push(series);
    } else if (field === 3) {
      let family = "";
      const metadata = { type: "unknown", unit: "" };
      inner(reader, (field) => {
        if (field === 1) metadata.type = types[reader.int32()] ?? "unknown";
        else if (field === 2) family = reader.string();
        else if (field === 5) metadata.unit = reader.string();
        else return false;
        return true;
      });
      families.set(family, metadata);
    } else return false;
    return true;
  });
  return toIncoming(all, (name) => families.get(name) ?? families.get(name.replace(familySuffix, "")));
}

function label(reader: BinaryReader, { labels }: RawSeries): true {
  const pair: [string, string] = ["", ""];
  inner(reader, (field) => {
    if (field !== 1 && field !== 2) return false;
    pair[field - 1] = reader.string();
    return true;
  });
  labels.push(pair);
  return true;
}

/** Reads an io.prometheus.write.v2.Request. Throws where the bytes are none, or refer to a symbol that is not there. */
export function readRequestV2(bytes: Uint8Array): Incoming {
  const symbols: string[] = [];
  const raw: { series: RawSeries; refs: number[]; unit: number }[] = [];
  const reader = new BinaryReader(bytes);
  read(reader, bytes.length, (field) => {
    if (field === 4) symbols.push(reader.string());
    else if (field === 5) raw.push(seriesV2(reader));
    else return false;
    return true;
  });
  const symbol = (ref: number) => {
    const text = symbols[ref];
    if (text === undefined) throw new RangeError(`there is no symbol ${ref}`);
    return text;
  };
  const all = raw.map(({ series, refs, unit }) => {
    if (refs.length % 2 !== 0) throw new RangeError("a label has no value");
    for (let at = 0; at < refs.length; at += 2)
      series.labels.push([symbol(refs[at] as number), symbol(refs[at + 1] as number)]);
    if (series.metadata && unit > 0) series.metadata.unit = symbol(unit);
    return series;
  });
  return toIncoming(all, () => undefined);
}

function seriesV2(reader: BinaryReader) {
  const series = nothing();
  const refs: number[] = [];
  let unit = 0;
  read(reader, reader.uint32(), (field) => {
    if (field === 1) {
      const end = reader.uint32() + reader.pos;
      while (reader.pos < end) refs.push(reader.uint32());
      return true;
    }
    if (field === 2) return sample(reader, series);
    if (field === 3) return histogram(reader, series);
    if (field !== 5) return false;
    const metadata = { type: "unknown", unit: "" };
    inner(reader, (field) => {
      if (field === 1) metadata.type = types[reader.int32()] ?? "unknown";
      else if (field === 4) unit = reader.uint32();
      else return false;
      return true;
    });
    series.metadata = metadata;
    return true;
  });
  return { series, refs, unit };
}

const familySuffix = /_(?:total|bucket|count|sum)$/;

function toIncoming(all: readonly RawSeries[], familyOf: (name: string) => Metadata | undefined): Incoming {
  const incoming: Incoming = { series: [], refused: [] };
  for (const { labels, timesMs, values, histograms, metadata } of all) {
    const given = new Map(labels);
    const name = given.get("__name__") ?? "";
    given.delete("__name__");
    if (histograms > 0) {
      const reason = `${name}: native histograms have no form here; send classic ones`;
      incoming.refused.push({ samples: histograms, reason });
    }
    if (values.length === 0) continue;
    if (name === "") {
      incoming.refused.push({ samples: values.length, reason: "a series has no __name__" });
      continue;
    }
    const { type = "unknown", unit = "" } = metadata ?? familyOf(name) ?? {};
    const series: IncomingSeries = {
      store: given.get("job") ?? "",
      name: metricName(name),
      labels: Object.fromEntries([...given].map(([key, value]) => [labelName(key), value])),
      kind: kindOf(name, type),
      unit,
      timesMs,
      values,
    };
    incoming.series.push(series);
  }
  return incoming;
}

/** What a series counts: by its type, and where format 1.0 sends that apart from the samples, by its name. */
function kindOf(name: string, type: string): IncomingSeries["kind"] {
  if (type === "counter") return "counter";
  if (type === "histogram" || type === "summary")
    return /_(?:bucket|count|sum)$/.test(name) ? "counter" : "gauge";
  if (type !== "unknown") return "gauge";
  return familySuffix.test(name) ? "counter" : "gauge";
}
