/** Reads samples of series wherever they lie: blocks, and batches that are not compacted yet. */
import { sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { TenantTransaction } from "../../db/tenant.ts";
import { decodeBatch } from "./batch.ts";
import { decodeBlock } from "./block.ts";
import { dayMs } from "./blocks.ts";
import { joinPieces, lowerBound, type Piece, type SampleColumns, type SeriesRun } from "./columns.ts";

/** Samples of decoded batches that are kept: a batch never changes, and those of the last minute are asked for again and again. */
const maxKeptSamples = 2_000_000;
const decodedBatches = new LRUCache<string, SampleColumns>({
  maxSize: maxKeptSamples,
  sizeCalculation: ({ times }) => Math.max(times.length, 1),
});

interface StoredRow {
  readonly seq: bigint | null;
  readonly data: Buffer | null;
}

/**
 * The samples of series from `from` (inclusive) to `to` (exclusive), milliseconds since 1970, in ascending order of `ref`; series without any are left out.
 * One statement reads all, so that nothing is missed while a compaction moves samples: what it moves is seen here or there.
 */
export async function readRuns(
  trx: TenantTransaction,
  tenantId: string,
  refs: readonly number[],
  from: number,
  to: number,
): Promise<SeriesRun[]> {
  const [fromMs, toMs] = [Math.ceil(from), Math.ceil(to)];
  if (refs.length === 0 || fromMs >= toMs) return [];
  const wanted = new Set(refs);
  const batches = keptBatches(tenantId);
  const { rows } = await sql<StoredRow>`
    select seq, data from (
      select 0 as place, run as written, null::bigint as seq, data from sample_blocks
      where tenant_id = ${tenantId} and day between ${dayNumber(fromMs)} and ${dayNumber(toMs)}
        and min_ms < ${toMs} and max_ms >= ${fromMs}
        and int8range(first_ref, last_ref, '[]') && ${rangesOf(refs)}::int8multirange
      union all
      select 1, seq, seq, ${batches.data}
      from sample_batches
      where tenant_id = ${tenantId} and min_ms < ${toMs} and max_ms >= ${fromMs}
    ) as stored
    order by place, written`.execute(trx);

  const pieces = new Map<number, Piece[]>();
  const add = (ref: number, piece: Piece) => {
    const list = pieces.get(ref);
    if (list) list.push(piece);
    else pieces.set(ref, [piece]);
  };
  for (const { seq, data } of rows) {
    if (seq === null) {
      for (const { ref, times, values } of await decodeBlock(data as Buffer, wanted)) {
        const first = lowerBound(times, fromMs);
        const end = lowerBound(times, toMs, first);
        if (first < end) add(ref, { times, values, from: first, to: end });
      }
      continue;
    }
    const columns = batches.columnsOf(seq, data);
    let at = 0;
    columns.refs.forEach((ref, index) => {
      const end = at + (columns.counts[index] as number);
      if (wanted.has(ref)) add(ref, { times: columns.times, values: columns.values, from: at, to: end });
      at = end;
    });
  }
  const runs: SeriesRun[] = [];
  for (const ref of Float64Array.from(pieces.keys()).sort()) {
    const { times, values } = joinPieces(pieces.get(ref) as Piece[]);
    const first = lowerBound(times, fromMs);
    const end = lowerBound(times, toMs, first);
    if (first < end)
      runs.push({ ref, times: times.subarray(first, end), values: values.subarray(first, end) });
  }
  return runs;
}

/** The tenant's batches that are decoded already. Held by who reads, for others may drive them out meanwhile. */
function keptBatches(tenantId: string) {
  const prefix = `${tenantId} `;
  const kept = new Map<bigint, SampleColumns>();
  for (const [key, columns] of decodedBatches.entries()) {
    if (key.startsWith(prefix)) kept.set(BigInt(key.slice(prefix.length)), columns);
  }
  return {
    /** The column of the data, empty where it is decoded. */
    data: sql`case when seq = any(${[...kept.keys()]}::bigint[]) then null else data end`,
    columnsOf(seq: bigint, data: Buffer | null): SampleColumns {
      const columns = kept.get(seq) ?? decodeBatch(data as Buffer);
      decodedBatches.set(prefix + seq, columns);
      return columns;
    },
  };
}

/** Which of the wanted series have samples in batches, as `<ref> <start of the day>`. */
export async function batchRefs(
  trx: TenantTransaction,
  tenantId: string,
  wanted: ReadonlySet<number>,
  fromMs: number,
  toMs: number,
): Promise<Set<string>> {
  const batches = keptBatches(tenantId);
  const { rows } = await sql<{ seq: bigint; data: Buffer | null }>`
    select seq, ${batches.data} as data from sample_batches
    where tenant_id = ${tenantId} and min_ms < ${toMs} and max_ms >= ${fromMs}`.execute(trx);
  const found = new Set<string>();
  for (const { seq, data } of rows) {
    const { refs, counts, times } = batches.columnsOf(seq, data);
    let at = 0;
    refs.forEach((ref, index) => {
      const end = at + (counts[index] as number);
      if (wanted.has(ref)) {
        for (let sample = at; sample < end; sample++)
          found.add(`${ref} ${Math.floor((times[sample] as number) / dayMs) * dayMs}`);
      }
      at = end;
    });
  }
  return found;
}

export const dayNumber = (ms: number) => sql`date '1970-01-01' + ${Math.floor(ms / dayMs)}::int`;

/** Numbers as PostgreSQL's multirange, those next to each other in one range. */
export function rangesOf(refs: readonly number[]): string {
  const sorted = Float64Array.from(refs).sort();
  const ranges: string[] = [];
  for (let index = 0; index < sorted.length; ) {
    const first = sorted[index] as number;
    let last = first;
    while (index < sorted.length && (sorted[index] as number) <= last + 1) last = sorted[index++] as number;
    ranges.push(`[${first},${last}]`);
  }
  return `{${ranges.join(",")}}`;
}
