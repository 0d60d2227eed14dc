import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import snappy from "snappyjs";

/** A series as senders of remote write have it. */
export interface SentSeries {
  readonly labels: Readonly<Record<string, string>>;
  /** Times in milliseconds, and values. */
  readonly samples: readonly (readonly [number, number])[];
  /** Of format 2.0. */
  readonly type?: number;
  readonly unit?: string;
}

const message = (writer: BinaryWriter, field: number, fill: (inner: BinaryWriter) => void) => {
  writer.tag(field, WireType.LengthDelimited).fork();
  fill(writer);
  writer.join();
};
const samplesOf = (writer: BinaryWriter, { samples }: SentSeries) => {
  for (const [time, value] of samples) {
    message(writer, 2, (inner) =>
      inner.tag(1, WireType.Bit64).double(value).tag(2, WireType.Varint).int64(time),
    );
  }
};

/** A prometheus.WriteRequest. */
export function writeRequest(all: readonly SentSeries[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const series of all) {
    message(writer, 1, (inner) => {
      for (const [name, value] of Object.entries(series.labels)) {
        message(inner, 1, (label) =>
          label.tag(1, WireType.LengthDelimited).string(name).tag(2, WireType.LengthDelimited).string(value),
        );
      }
      samplesOf(inner, series);
    });
  }
  return writer.finish();
}

/** An io.prometheus.write.v2.Request. */
export function requestV2(all: readonly SentSeries[]): Uint8Array {
  const symbols = [""];
  const ref = (text: string) => (symbols.includes(text) ? symbols.indexOf(text) : symbols.push(text) - 1);
  const writer = new BinaryWriter();
  for (const series of all) {
    message(writer, 5, (inner) => {
      message(inner, 1, (refs) => {
        for (const [name, value] of Object.entries(series.labels)) refs.uint32(ref(name)).uint32(ref(value));
      });
      samplesOf(inner, series);
      message(inner, 5, (metadata) =>
        metadata
          .tag(1, WireType.Varint)
          .int32(series.type ?? 0)
          .tag(4, WireType.Varint)
          .uint32(ref(series.unit ?? "")),
      );
    });
  }
  for (const symbol of symbols) writer.tag(4, WireType.LengthDelimited).string(symbol);
  return writer.finish();
}

const types = {
  "0.1.0": "application/x-protobuf",
  "2.0.0": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
};

/** Sends a message as Prometheus does. */
export function remoteWrite(
  url: string,
  version: keyof typeof types,
  series: readonly SentSeries[],
  headers: Record<string, string>,
): Promise<Response> {
  const bytes = version === "0.1.0" ? writeRequest(series) : requestV2(series);
  return fetch(`${url}/api/v1/write`, {
    method: "POST",
    headers: {
      "content-type": types[version],
      "content-encoding": "snappy",
      "x-prometheus-remote-write-version": version,
      ...headers,
    },
    body: Buffer.from(snappy.compress(bytes)),
  });
}
