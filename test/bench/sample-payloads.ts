/** The same samples for every system, as each wants them. Made before they are sent, so that making them is not measured. */
import { ByteWriter } from "../../server/src/metrics/storage/bytes.ts";

/** Samples of a batch, as gateways and InfluxDB's own clients have them. */
export const batchSize = 5_000;
const samplesOfSeries = 50;

/**
 * What a batch holds. `gateway`: 100 series, 50 samples a second apart of each. `scrape`: 5,000 series, one sample of each, 15
 * seconds after the batch before. `day`: as a gateway, but 15 seconds apart, for the query.
 */
export type Shape = "gateway" | "scrape" | "day";

export interface Series {
  readonly name: string;
  readonly labels: readonly (readonly [name: string, value: string])[];
  readonly times: readonly number[];
  readonly values: readonly number[];
}

/** Batch number `round` of a caller. Each caller has series of its own, times go on from round to round. */
export function batchOf(shape: Shape, caller: number, round: number, startMs: number): Series[] {
  const [series, samples, stepMs] = {
    gateway: [batchSize / samplesOfSeries, samplesOfSeries, 1_000],
    day: [batchSize / samplesOfSeries, samplesOfSeries, 15_000],
    scrape: [batchSize, 1, 15_000],
  }[shape] as [number, number, number];
  return Array.from({ length: series }, (_, index) => {
    const times = Array.from(
      { length: samples },
      (_, sample) => startMs + (round * samples + sample) * stepMs,
    );
    return {
      name: `${shape}_${index % 2 === 0 ? "load" : "requests_total"}`,
      labels: [
        ["host", `host-${caller}-${Math.floor(index / 20)}`],
        ["core", String(index % 20)],
      ],
      times,
      values: times.map((ms) => valueAt(index, ms)),
    };
  });
}

/** Half of the series are gauges of two decimals, half are counters. */
function valueAt(index: number, ms: number): number {
  const noise = ((Math.imul(index * 7_919 + ms / 1_000, 2_654_435_761) >>> 0) % 1_000) / 1_000;
  if (index % 2 === 1) return Math.floor((ms % 1e9) / 10 + noise * 100);
  return Math.round((50 + 20 * Math.sin(ms / 600_000 + index) + 5 * noise) * 100) / 100;
}

/** WriteSamplesRequest in the packed form, in the envelope of gRPC. By hand: a library would take long to make them. */
export function asPulsewire(batch: readonly Series[], storeId: string): Buffer {
  const writer = new ByteWriter(100_000);
  writer.position = 5;
  for (const { name, labels, times, values } of batch) {
    writer.reserve(1_000 + 16 * times.length);
    field(writer, 1, (item) => {
      text(item, 1, name);
      for (const [key, value] of labels) {
        field(item, 2, (entry) => {
          text(entry, 1, key);
          text(entry, 2, value);
        });
      }
      item.varint((3 << 3) | 0);
      item.varint(name.endsWith("_total") ? 2 : 1);
      const base = times[0] as number;
      field(item, 6, (time) => {
        time.varint((1 << 3) | 0);
        time.varint(Math.floor(base / 1_000));
        if (base % 1_000 === 0) return;
        time.varint((2 << 3) | 0);
        time.varint((base % 1_000) * 1_000_000);
      });
      field(item, 7, (offsets) => {
        for (const time of times) offsets.varint(time - base);
      });
      field(item, 8, (packed) => {
        for (const value of values) packed.double(value);
      });
    });
  }
  writer.reserve(100);
  text(writer, 3, storeId);
  writer.buffer[0] = 0;
  writer.buffer.writeUInt32BE(writer.position - 5, 1);
  return writer.finish();
}

/** A length-delimited field; its length takes two bytes. */
function field(writer: ByteWriter, number: number, write: (writer: ByteWriter) => void): void {
  writer.varint((number << 3) | 2);
  const start = writer.position;
  writer.position += 2;
  write(writer);
  const length = writer.position - start - 2;
  if (length >= 1 << 14) throw new Error("a field too long");
  writer.buffer[start] = (length & 127) | 128;
  writer.buffer[start + 1] = length >> 7;
}

function text(writer: ByteWriter, number: number, value: string): void {
  writer.varint((number << 3) | 2);
  writer.varint(value.length);
  writer.position += writer.buffer.write(value, writer.position, "latin1");
}

/** InfluxDB's line protocol, times in milliseconds. */
export function asLines(batch: readonly Series[]): Buffer {
  const lines: string[] = [];
  for (const { name, labels, times, values } of batch) {
    const series = `${name},${labels.map((label) => label.join("=")).join(",")} value=`;
    times.forEach((time, index) => {
      lines.push(`${series}${values[index]} ${time}`);
    });
  }
  return Buffer.from(lines.join("\n"));
}
