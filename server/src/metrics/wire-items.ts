import { create, fromBinary } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import {
  type Sample,
  SampleSchema,
  type SeriesSamples,
  SeriesSamplesSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import { violationsOf } from "../rpc/validate.ts";
import type { SampleBatch } from "./sample-batch.ts";
import { kindWord, newSeries, type SampleRules } from "./samples.ts";
import type { SeriesCache, WrittenSeries } from "./series-cache.ts";
import { doubleType, lengthDelimited, tagOf, unusual, varintType, WireReader } from "./wire-reader.ts";

/** The most samples of a packed item that the contract allows. */
export const maxPerSeries = 100_000;

/** Reads the items of a WriteSamplesRequest into a batch; throws `unusual` where the usual way has to. */
export class ItemReader extends WireReader {
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
