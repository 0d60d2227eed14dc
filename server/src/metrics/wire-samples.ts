/**
 * Reads WriteSamplesRequest straight from its bytes into columns. Known series are recognised by the bytes that say what they
 * are, so that writing them again costs neither messages nor checks of names and labels. Only what is certainly right is read here:
 * anything else, a broken rule, an unknown field, another order of fields than all encoders have, is left to the usual way,
 * which says what is wrong.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type WriteSamplesRequest,
  WriteSamplesRequestSchema,
} from "../gen/pulsewire/metrics/v1/sample_pb.js";
import { markValidated, violationsOf } from "../rpc/validate.ts";
import { SampleBatch } from "./sample-batch.ts";
import type { SampleRules } from "./samples.ts";
import type { SeriesCache } from "./series-cache.ts";
import { ItemReader, maxPerSeries } from "./wire-items.ts";
import { tagOf, unusual, varintType, WireReader } from "./wire-reader.ts";

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

/** The most samples that there is room for in the packed items: each takes 9 bytes at least. */
function mostPacked({ series }: WireItems): number {
  let bytes = 0;
  for (let at = 0; at < series.length; at += 2) bytes += (series[at + 1] as number) - (series[at] as number);
  return Math.min(Math.floor(bytes / 9), 2 * maxPerSeries);
}
