/** Commits samples of the open standards as those of WriteSamples: the same rules, limits and outcomes. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { MetricsConfig } from "../../config/metrics.ts";
import {
  MetricKind,
  type SeriesSamples,
  SeriesSamplesSchema,
  WriteSamplesRequestSchema,
} from "../../gen/pulsewire/metrics/v1/sample_pb.js";
import { type Caller, callerOf } from "../../rpc/caller.ts";
import { answerWrite } from "../answer-write.ts";
import type { SampleWriter } from "../write.ts";
import type { Incoming, IncomingSeries, Refused } from "./incoming.ts";
import { type StoreNames, storeHeader } from "./store-names.ts";

/** The contract's own bound. */
const maxSeriesPerWrite = 10_000;

export interface IncomingParts {
  readonly samples: SampleWriter;
  readonly storeNames: StoreNames;
  readonly limits: MetricsConfig;
}

/** What became of a request. */
export interface Written {
  readonly accepted: number;
  readonly refused: readonly Refused[];
}

/**
 * Writes what can be written, and tells the rest. `named` is the store that the request names for all, if any. Values that are
 * no number mark an end or a gap: they are passed over. Throws what WriteSamples throws for a whole call, such as OVERLOADED.
 */
export async function writeIncoming(
  parts: IncomingParts,
  call: HandlerContext,
  incoming: Incoming,
  named: string,
): Promise<Written> {
  const refused = [...incoming.refused];
  const items = incoming.series.flatMap((series) => packed(series, parts.limits, refused));
  let accepted = 0;
  for (const chunk of chunksOf(items, parts.limits.maxBatchSamples)) {
    accepted += await writeChunk(parts, call, chunk, named, refused);
  }
  return { accepted, refused };
}

interface Item {
  readonly store: string;
  readonly message: SeriesSamples;
}

async function writeChunk(
  parts: IncomingParts,
  call: HandlerContext,
  chunk: readonly Item[],
  named: string,
  refused: Refused[],
  again = false,
): Promise<number> {
  const { samples, storeNames, limits } = parts;
  const caller = callerOf(call);
  const stores = new Map<string, string | Refused["reason"][]>();
  const ready: Item[] = [];
  for (const item of chunk) {
    const name = storeOf(caller, named, item.store);
    let id = stores.get(name);
    if (id === undefined) {
      id = await storeNames.idOf(call, name).catch(refusal);
      stores.set(name, id);
    }
    if (typeof id === "string") {
      item.message.storeId = id;
      ready.push({ ...item, store: name });
    } else {
      refused.push({ samples: item.message.values.length, reason: id.join() });
    }
  }
  if (ready.length === 0) return 0;
  const request = create(WriteSamplesRequestSchema, { allowPartial: true });
  request.series = ready.map(({ message }) => message);
  const { counts, failures = [] } = await answerWrite(samples, limits, caller, request);
  // A store that was known here may have been deleted since.
  const gone: Item[] = [];
  for (const { index = 0, sampleCount = 0, outcome } of failures) {
    const item = ready[index];
    if (item && outcome?.code === "NOT_FOUND" && !again) {
      storeNames.forget(caller.tenantId, item.store);
      gone.push(item);
    } else {
      const { field = "", message = "" } = outcome ?? {};
      refused.push({ samples: sampleCount, reason: `${item?.message.name}: ${field}: ${message}` });
    }
  }
  const later = gone.length > 0 ? await writeChunk(parts, call, gone, named, refused, true) : 0;
  return (counts?.accepted ?? 0) + later;
}

/** The request's word first, then that of a key that is bound to one store, then the sender's. */
function storeOf({ storeIds }: Caller, named: string, own: string): string {
  const [only] = storeIds;
  return named || (storeIds.length === 1 && only ? only : own);
}

/** What a caller is told of a store that they may not use or make; what is nobody's fault ends the call. */
function refusal(error: unknown): string[] {
  if (!(error instanceof ConnectError)) throw error;
  const { code, rawMessage } = error;
  if (code !== Code.InvalidArgument && code !== Code.PermissionDenied && code !== Code.ResourceExhausted)
    throw error;
  return [rawMessage];
}

/** The packed form, without what cannot be written. */
function packed(series: IncomingSeries, limits: MetricsConfig, refused: Refused[]): Item[] {
  const { name, labels, kind, unit, store } = series;
  const nowMs = Date.now();
  const oldest = nowMs - limits.maxSampleAgeMs;
  const newest = nowMs + limits.maxSampleAheadMs;
  const times: number[] = [];
  const values: number[] = [];
  let outside = 0;
  let infinite = 0;
  series.values.forEach((value, index) => {
    const time = series.timesMs[index] as number;
    if (Number.isNaN(value)) return;
    if (!Number.isFinite(value)) infinite++;
    else if (!(time >= oldest && time <= newest)) outside++;
    else {
      times.push(time);
      values.push(value);
    }
  });
  if (infinite > 0) refused.push({ samples: infinite, reason: `${name}: a value is not finite` });
  if (outside > 0) {
    const from = new Date(oldest).toISOString();
    const until = new Date(newest).toISOString();
    refused.push({ samples: outside, reason: `${name}: times must lie between ${from} and ${until}` });
  }
  if (values.length === 0) return [];
  const base = times.reduce((least, time) => Math.min(least, time));
  const message = create(SeriesSamplesSchema, {
    name,
    labels,
    kind: kind === "counter" ? MetricKind.COUNTER : MetricKind.GAUGE,
    unit,
    baseTime: timestampFromMs(base),
    offsetsMs: times.map((time) => time - base),
    values,
  });
  return [{ store, message }];
}

/** In pieces that one write may hold. */
function* chunksOf(items: readonly Item[], maxSamples: number): Generator<Item[]> {
  let chunk: Item[] = [];
  let samples = 0;
  for (const item of items.flatMap((item) => splitLong(item, maxSamples))) {
    const size = item.message.values.length;
    if (chunk.length > 0 && (samples + size > maxSamples || chunk.length === maxSeriesPerWrite)) {
      yield chunk;
      chunk = [];
      samples = 0;
    }
    chunk.push(item);
    samples += size;
  }
  if (chunk.length > 0) yield chunk;
}

function splitLong(item: Item, maxSamples: number): Item[] {
  const { store, message } = item;
  const parts: Item[] = [];
  for (let at = 0; at < message.values.length; at += maxSamples) {
    const [offsetsMs, values] = [message.offsetsMs, message.values].map((column) =>
      column.slice(at, at + maxSamples),
    ) as [number[], number[]];
    parts.push({ store, message: { ...message, offsetsMs, values } });
  }
  return parts;
}

/** What a sender is told of what was refused: the count, and the first few reasons. */
export function tellRefused(refused: readonly Refused[]): string {
  const count = refused.reduce((sum, { samples }) => sum + samples, 0);
  const reasons = [...new Set(refused.map(({ reason }) => reason))];
  const more = reasons.length > 3 ? ` (and ${reasons.length - 3} more)` : "";
  return `${count} refused: ${reasons.slice(0, 3).join("; ")}${more}`;
}

/** The store that a request names for all its samples; empty: none. */
export function namedStore(header: Pick<Headers, "get">): string {
  return header.get(storeHeader)?.trim() ?? "";
}
