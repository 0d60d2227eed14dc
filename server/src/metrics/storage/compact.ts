/**
 * From batches to blocks: the oldest batches of a tenant are sorted by series and time into a run of blocks for each day, and
 * removed in the same transaction, so that a crash leaves all or nothing of it.
 */
import { setImmediate } from "node:timers/promises";
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { decodeBatch } from "./batch.ts";
import { BlockWriter, dayMs, dayOf, existingRefs, takeStorage } from "./blocks.ts";
import { joinPieces, lowerBound, type Piece, type SeriesRun } from "./columns.ts";
import { nextRun } from "./runs.ts";

export interface Compacted {
  readonly batches: number;
  readonly samples: number;
  /** The days that got a new run. */
  readonly days: readonly string[];
  /** Whether batches are left. */
  readonly more: boolean;
}

/**
 * Compacts batches of at most so many samples, one batch at least, that are older than `graceMs`. Undefined where another
 * process is at it.
 */
export async function compactBatches(
  trx: TenantTransaction,
  tenantId: string,
  maxSamples: number,
  graceMs = 0,
): Promise<Compacted | undefined> {
  if (!(await takeStorage(trx, tenantId))) return undefined;
  const { seqs, samples, more } = await oldestBatches(trx, tenantId, maxSamples, graceMs);
  if (seqs.length === 0) return { batches: 0, samples: 0, days: [], more: false };
  const pieces = await readPieces(trx, tenantId, seqs);
  const existing = await existingRefs(trx, tenantId, [...pieces.keys()]);
  const refs = Float64Array.from([...pieces.keys()].filter((ref) => existing.has(ref))).sort();
  const days = new Map<string, SeriesRun[]>();
  let joined = 0;
  for (const ref of refs) {
    const { times, values } = joinPieces(pieces.get(ref) as Piece[]);
    for (let from = 0; from < times.length; ) {
      const start = times[from] as number;
      const end = (Math.floor(start / dayMs) + 1) * dayMs;
      const to = (times.at(-1) as number) < end ? times.length : lowerBound(times, end, from);
      const day = dayOf(start);
      const runs = days.get(day);
      const run = { ref, times: times.subarray(from, to), values: values.subarray(from, to) };
      if (runs) runs.push(run);
      else days.set(day, [run]);
      from = to;
    }
    // Calls must not wait for long.
    joined += times.length;
    if (joined > samplesPerTurn) {
      joined = 0;
      await setImmediate();
    }
  }
  const run = await nextRun(trx);
  for (const [day, runs] of days) {
    const writer = new BlockWriter(trx, { tenantId, day, run, level: 1 });
    for (const series of runs) await writer.add(series);
    await writer.finish();
  }
  await trx.deleteFrom("sample_batches").where("tenant_id", "=", tenantId).where("seq", "in", seqs).execute();
  return { batches: seqs.length, samples, days: [...days.keys()], more };
}

/** Samples that are sorted or decoded at a stretch. */
const samplesPerTurn = 50_000;
/** Batches that are read at a time. */
const batchesPerRead = 64;

async function oldestBatches(trx: TenantTransaction, tenantId: string, maxSamples: number, graceMs: number) {
  const rows = await trx
    .selectFrom("sample_batches")
    .select(["seq", "samples"])
    .where("tenant_id", "=", tenantId)
    .where("written_at", "<=", sql<Date>`now() - ${graceMs} * interval '1 millisecond'`)
    .orderBy("seq")
    .execute();
  const seqs: bigint[] = [];
  let total = 0;
  for (const { seq, samples } of rows) {
    if (seqs.length > 0 && total + samples > maxSamples) break;
    seqs.push(seq);
    total += samples;
  }
  return { seqs, samples: total, more: seqs.length < rows.length };
}

/** The samples of batches by series, in the order of the batches. */
async function readPieces(
  trx: TenantTransaction,
  tenantId: string,
  seqs: readonly bigint[],
): Promise<Map<number, Piece[]>> {
  const pieces = new Map<number, Piece[]>();
  for (let at = 0; at < seqs.length; at += batchesPerRead) {
    const rows = await trx
      .selectFrom("sample_batches")
      .select("data")
      .where("tenant_id", "=", tenantId)
      .where("seq", "in", seqs.slice(at, at + batchesPerRead))
      .orderBy("seq")
      .execute();
    for (const { data } of rows) {
      const { refs, counts, times, values } = decodeBatch(data);
      let from = 0;
      refs.forEach((ref, index) => {
        const to = from + (counts[index] as number);
        const piece = { times, values, from, to };
        const list = pieces.get(ref);
        if (list) list.push(piece);
        else pieces.set(ref, [piece]);
        from = to;
      });
      await setImmediate();
    }
  }
  return pieces;
}
