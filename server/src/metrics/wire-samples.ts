/**
 * Reads WriteSamplesRequest straight from its bytes into columns. Known series are recognised by the bytes that say what they
 * are, so that writing them again costs neither messages nor checks of names and labels. Only what is certainly right is read here:
 * anything else, a broken rule, an unknown field, another order of fields than all encoders have, is left to the usual way,
 * which says what is wrong.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type Sample,
  SampleSchema,
  type SeriesSamples,
  SeriesSamplesSchema,
  type WriteSamplesRequest,
  WriteSamplesRequestSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import { markValidated, violationsOf } from "../rpc/validate.ts";
import { SampleBatch } from "./sample-batch.ts";
import { kindWord, newSeries, type SampleRules } from "./samples.ts";
import type { SeriesCache, WrittenSeries } from "./series-cache.ts";

/** A request whose items are still bytes. */
export interface WireRequest extends WriteSamplesRequest {
  readonly wire: WireItems;
}

interface WireItems {
  readonly bytes: Buffer;
  /** Start and end of each item of `series` and of `samples`. */
  readonly series: number[];
  readonly samples: number[];
}

const lengthDelimited = 2;
const tagOf = (field: number, type = lengthDelimited) => (field << 3) | type;
const varintType = 0;
const doubleType = 1;

/** The decoder of the method: reads all but the items. Throws where the bytes need the usual way. */
export function readWireRequest(bytes: Uint8Array): WireRequest {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reader = new WireReader(buffer);
  const series: number[] = [];
  const samples: number[] = [];
  // All but the items, for the usual decoder.
  const rest: Buffer[] = [];
  while (reader.position < buffer.length) {
    const start = reader.position;
    const tag = reader.varint();
    if (tag === tagOf(1) || tag === tagOf(2)) {
      const length = reader.varint();
      (tag === tagOf(1) ? series : samples).push(reader.position, reader.position + length);
      reader.position += length;
      continue;
    }
    if (tag !== tagOf(3) && tag !== tagOf(4, varintType) && tag !== tagOf(5)) throw unusual;
    const number = reader.varint();
    if (tag !== tagOf(4, varintType)) reader.position += number;
    rest.push(buffer.subarray(start, reader.position));
  }
  if (reader.position !== buffer.length) throw unusual;
  if (series.length > 2 * maxSeries || samples.length > 2 * maxSamples) throw unusual;
  const request = fromBinary(WriteSamplesRequestSchema, Buffer.concat(rest));
  if (violationsOf(WriteSamplesRequestSchema, request).length > 0) throw unusual;
  return markValidated(Object.assign(request, { wire: { bytes: buffer, series, samples } }));
}

/** Whether the items of a request are still bytes. */
export function isWireRequest(request: WriteSamplesRequest): request is WireRequest {
  return "wire" in request;
}

/** The usual message of the same bytes. */
export function decodeWireRequest({ wire }: WireRequest): WriteSamplesRequest {
  try {
    return fromBinary(WriteSamplesRequestSchema, wire.bytes);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConnectError(`parse binary: ${reason}`, Code.InvalidArgument);
  }
}

/** How many items a request has. */
export function countItems({ wire }: WireRequest): number {
  return (wire.series.length + wire.samples.length) / 2;
}

/** Reads the items; undefined where one of them needs the usual way. */
export function readWireItems(
  { wire }: WireRequest,
  rules: SampleRules,
  cache: SeriesCache,
): SampleBatch | undefined {
  const batch = new SampleBatch(wire.samples.length / 2 + mostPacked(wire));
  const items = new ItemReader(wire.bytes, rules, cache, batch);
  try {
    for (let at = 0; at < wire.series.length; at += 2)
      items.readSeries(at / 2, wire.series[at] as number, wire.series[at + 1] as number);
    for (let at = 0; at < wire.samples.length; at += 2)
      items.readSample(at / 2, wire.samples[at] as number, wire.samples[at + 1] as number);
    return batch;
  } catch (error) {
    if (error === unusual) return undefined;
    throw error;
  }
}

/** The most that the contract allows. */
const maxSeries = 10_000;
const maxSamples = 100_000;
const maxPerSeries = 100_000;

/** The most samples that there is room for in the packed items: each takes 9 bytes at least. */
function mostPacked({ series }: WireItems): number {
  let bytes = 0;
  for (let at = 0; at < series.length; at += 2) bytes += (series[at + 1] as number) - (series[at] as number);
  return Math.min(Math.floor(bytes / 9), 2 * maxPerSeries);
}

/** Thrown where the usual way has to read; one for all, for it carries nothing. */
const unusual = new Error("the usual decoder has to read this");

class WireReader {
  readonly buffer: Buffer;
  position = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  /** At most 2^53. */
  varint(): number {
    const { buffer } = this;
    let byte = buffer[this.position++];
    if (byte === undefined) throw unusual;
    if (byte < 128) return byte;
    let value = byte & 127;
    for (let factor = 128; factor < 2 ** 50; factor *= 128) {
      byte = buffer[this.position++];
      if (byte === undefined) throw unusual;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw unusual;
  }

  /** A google.protobuf.Timestamp from here to `end`, as milliseconds. */
  timestamp(end: number): number {
    let seconds = 0;
    let nanos = 0;
    if (this.position < end && this.buffer[this.position] === tagOf(1, varintType)) {
      this.position++;
      seconds = this.varint();
    }
    if (this.position < end && this.buffer[this.position] === tagOf(2, varintType)) {
      this.position++;
      nanos = this.varint();
    }
    if (this.position !== end || nanos >= 1e9) throw unusual;
    return seconds * 1_000 + Math.round(nanos / 1e6);
  }
}

class ItemReader extends WireReader {
  private readonly rules: SampleRules;
  private readonly cache: SeriesCache;
  private readonly batch: SampleBatch;
  private readonly scope: string;
  private readonly oldest: number;
  private readonly newest: number;
  /** Series of this call that were not met before. */
  private readonly fresh = new Map<string, WrittenSeries>();
  /** The series of the item before. */
  private before: WrittenSeries | undefined;

  constructor(buffer: Buffer, rules: SampleRules, cache: SeriesCache, batch: SampleBatch) {
    super(buffer);
    this.rules = rules;
    this.cache = cache;
    this.batch = batch;
    // The same bytes mean another series where another store is the default.
    this.scope = cache.scopeOf(rules.tenantId, rules.defaultStoreId);
    this.oldest = rules.receivedAtMs - rules.maxAgeMs;
    this.newest = rules.receivedAtMs + rules.maxAheadMs;
  }

  /** What the series is, fields 1 to 5, then its base time, offsets and values. */
  readSeries(index: number, start: number, end: number): void {
    const { buffer, batch } = this;
    this.position = start;
    this.skipIdentity(end, 1, 5);
    const identityEnd = this.position;
    const base = this.field(6, end);
    const baseMs = this.timestamp(base) + this.rules.skewMs;
    const offsetsEnd = this.field(7, end);
    const offsets = this.position;
    this.position = offsetsEnd;
    const valuesEnd = this.field(8, end);
    let values = this.position;
    const count = (valuesEnd - values) / 8;
    if (valuesEnd !== end || !Number.isInteger(count) || count === 0 || count > maxPerSeries) throw unusual;
    const series = this.seriesOf(false, start, identityEnd, identityEnd, identityEnd);
    batch.reserve(count);
    this.position = offsets;
    for (let left = count; left > 0; left--, values += 8) {
      const offset = this.varint();
      if (offset > 0xffffffff) throw unusual;
      this.add(baseMs + offset, buffer.readDoubleLE(values));
    }
    if (this.position !== offsetsEnd) throw unusual;
    batch.endRun(series, 2 * index, count);
  }

  /** Its name; its value and time; the rest of what the series is, fields 4 to 7. */
  readSample(index: number, start: number, end: number): void {
    const { buffer } = this;
    this.position = start;
    this.skipIdentity(end, 1, 1);
    const nameEnd = this.position;
    let value = 0;
    if (buffer[this.position] === tagOf(2, doubleType) && this.position + 9 <= end) {
      value = buffer.readDoubleLE(this.position + 1);
      this.position += 9;
    }
    let timeMs = this.rules.receivedAtMs;
    if (this.position < end && buffer[this.position] === tagOf(3))
      timeMs = this.timestamp(this.field(3, end)) + this.rules.skewMs;
    const rest = this.position;
    this.skipIdentity(end, 4, 7);
    if (this.position !== end) throw unusual;
    const series = this.seriesOf(true, start, nameEnd, rest, end);
    this.batch.reserve(1);
    this.add(timeMs, value);
    this.batch.endRun(series, 2 * index + 1, 1);
  }

  private add(timeMs: number, value: number): void {
    if (!(timeMs >= this.oldest && timeMs <= this.newest) || !Number.isFinite(value)) throw unusual;
    this.batch.add(timeMs, value);
  }

  /** Past the fields `first` to `last`, as long as there are such. */
  private skipIdentity(end: number, first: number, last: number): void {
    const { buffer } = this;
    while (this.position < end) {
      const tag = buffer[this.position] as number;
      const field = tag >> 3;
      if (field < first || field > last) break;
      this.position++;
      if ((tag & 7) === lengthDelimited) {
        const length = this.varint();
        this.position += length;
      } else if ((tag & 7) === varintType) this.varint();
      else throw unusual;
    }
    if (this.position > end) throw unusual;
  }

  /** The end of the field that must come next. */
  private field(field: number, end: number): number {
    if (this.buffer[this.position] !== tagOf(field)) throw unusual;
    this.position++;
    const length = this.varint();
    const fieldEnd = this.position + length;
    if (fieldEnd > end) throw unusual;
    return fieldEnd;
  }

  /** The series whose identity lies in two ranges: the one that came after the series before last time, or the one found by its bytes. */
  private seriesOf(
    plain: boolean,
    start: number,
    end: number,
    restStart: number,
    restEnd: number,
  ): WrittenSeries {
    const next = this.before?.next;
    if (
      next?.plain === plain &&
      next.scope === this.scope &&
      this.isAt(next.identity, start, end, restStart, restEnd)
    ) {
      this.before = next;
      return next;
    }
    const { buffer } = this;
    const key = `${plain ? "plain " : ""}${buffer.toString("latin1", start, end)}${buffer.toString("latin1", restStart, restEnd)}`;
    const series =
      this.cache.find(this.scope, key) ??
      this.unknown(
        key,
        plain,
        Buffer.concat([buffer.subarray(start, end), buffer.subarray(restStart, restEnd)]),
      );
    if (this.before) this.before.next = series;
    this.before = series;
    return series;
  }

  private isAt(
    identity: Uint8Array,
    start: number,
    end: number,
    restStart: number,
    restEnd: number,
  ): boolean {
    if (identity.length !== end - start + restEnd - restStart) return false;
    const { buffer } = this;
    let at = 0;
    for (let index = start; index < end; index++) if (identity[at++] !== buffer[index]) return false;
    for (let index = restStart; index < restEnd; index++) if (identity[at++] !== buffer[index]) return false;
    return true;
  }

  /** A series that was not met before: read and checked as usual. */
  private unknown(key: string, plain: boolean, identity: Uint8Array): WrittenSeries {
    const met = this.fresh.get(key);
    if (met) return met;
    const { name, labels, kind, unit, storeId: own } = readIdentity(plain, identity);
    const storeId = own.toLowerCase() || this.rules.defaultStoreId;
    if (!storeId) throw unusual;
    const definition = { name, labels, kind: kindWord(kind), unit };
    const series = newSeries(this.scope, key, storeId, definition, identity, plain);
    this.fresh.set(key, series);
    return series;
  }
}

function readIdentity(plain: boolean, identity: Uint8Array): Sample | SeriesSamples {
  try {
    if (plain) {
      const sample = fromBinary(SampleSchema, identity);
      if (violationsOf(SampleSchema, sample).length === 0) return sample;
    } else {
      const packed = readPacked(identity);
      if (violationsOf(SeriesSamplesSchema, packed).length === 0) return packed;
    }
  } catch {
    // Such as a text that is no UTF-8: the usual way says so.
  }
  throw unusual;
}

/** With times and values, which the rules ask for. */
function readPacked(identity: Uint8Array): SeriesSamples {
  const item = fromBinary(SeriesSamplesSchema, identity);
  return Object.assign(item, { baseTime: create(TimestampSchema), offsetsMs: [0], values: [0] });
}
