/** Blocks in the table: cutting runs of series into blocks, writing and removing them. */
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { encodeBlock } from "./block.ts";
import { lowerBound, type SeriesRun } from "./columns.ts";
import { encodeRollup, hourMs } from "./rollup.ts";

export const dayMs = 86_400_000;

/** The day that a time lies in, as PostgreSQL has dates. */
export function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

/** Samples of a block: enough to compress well, few enough to decode when a part is wanted. */
const maxBlockSamples = 32_768;

/** Where blocks go. */
export interface BlockPlace {
  readonly tenantId: string;
  readonly day: string;
  readonly run: bigint;
  readonly level: number;
}

/** Takes runs in ascending order of `ref` and time and writes them as blocks. */
export class BlockWriter {
  readonly #trx: TenantTransaction;
  readonly #place: BlockPlace;
  #runs: SeriesRun[] = [];
  #samples = 0;

  constructor(trx: TenantTransaction, place: BlockPlace) {
    this.#trx = trx;
    this.#place = place;
  }

  async add(run: SeriesRun): Promise<void> {
    for (let from = 0; from < run.times.length; ) {
      const to = cutAt(run.times, from, from + maxBlockSamples - this.#samples);
      this.#runs.push({
        ref: run.ref,
        times: run.times.subarray(from, to),
        values: run.values.subarray(from, to),
      });
      this.#samples += to - from;
      from = to;
      if (from < run.times.length || this.#samples === maxBlockSamples) await this.finish();
    }
  }

  /** Writes what is left. */
  async finish(): Promise<void> {
    const runs = this.#runs;
    const [first] = runs;
    if (!first) return;
    const samples = this.#samples;
    this.#runs = [];
    this.#samples = 0;
    const { tenantId, day, run, level } = this.#place;
    const minMs = Math.min(...runs.map(({ times }) => times[0] as number));
    const maxMs = Math.max(...runs.map(({ times }) => times.at(-1) as number));
    const lastRef = (runs.at(-1) as SeriesRun).ref;
    await sql`/* kept as insert_sample_block */
      insert into sample_blocks
        (tenant_id, day, run, first_ref, last_ref, min_ms, max_ms, level, samples, data, rollup)
      values (${tenantId}, ${day}, ${run}, ${first.ref}, ${lastRef}, ${minMs}, ${maxMs}, ${level}, ${samples},
        ${await encodeBlock(runs)}, ${await encodeRollup(runs)})`.execute(this.#trx);
  }
}

/** Where a block that has room for the samples up to `room` ends: at the end of an hour, if there is one. */
function cutAt(times: Float64Array, from: number, room: number): number {
  if (room >= times.length) return times.length;
  const hour = Math.floor((times[room] as number) / hourMs) * hourMs;
  const cut = lowerBound(times, hour, from, room);
  return cut > from ? cut : room;
}

/**
 * Takes the tenant's blocks and batches for whoever moves samples, until the transaction ends: one at a time. False where
 * somebody else has them.
 */
export async function takeStorage(trx: TenantTransaction, tenantId: string): Promise<boolean> {
  const { rows } = await sql<{ taken: boolean }>`
    select pg_try_advisory_xact_lock(hashtextextended(${`samples ${tenantId}`}, 0)) as taken`.execute(trx);
  return rows[0]?.taken ?? false;
}

/** Of these refs, those whose series are there. */
export async function existingRefs(
  trx: TenantTransaction,
  tenantId: string,
  refs: readonly number[],
): Promise<Set<number>> {
  const { rows } = await sql<{ ref: bigint }>`
    select ref from series where tenant_id = ${tenantId} and ref = any(${[...refs]}::bigint[])`.execute(trx);
  return new Set(rows.map(({ ref }) => Number(ref)));
}
