/**
 * Samples as they are written, for who follows them: each read gives the batches of a tenant that were committed since the one
 * before. The compaction leaves a batch alone for `batchGraceMs`; who reads less often must look into the stored runs.
 */
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { decodeBatch } from "./batch.ts";
import { joinPieces, type Piece, type SeriesRun } from "./columns.ts";

/** For how long a batch lies uncompacted, from the beginning of the transaction that wrote it. */
export const batchGraceMs = 5_000;
/** A number is given to a batch before its commit: for so long it may still appear. */
const settleMs = 60_000;
/** Batches of one read, each with the samples of a flush. */
const maxBatches = 40;

export class SampleFeed {
  readonly #tenantId: string;
  /** What lies up to here was read, or is older than the feed. */
  #floor = 0n;
  /** Batches after `#floor` that were read, and when. */
  readonly #seen = new Map<bigint, number>();

  constructor(tenantId: string) {
    this.#tenantId = tenantId;
  }

  /** Begins now: what is committed already is passed over. */
  async begin(trx: TenantTransaction): Promise<void> {
    const rows = await trx
      .selectFrom("sample_batches")
      .select("seq")
      .where("tenant_id", "=", this.#tenantId)
      .execute();
    const nowMs = Date.now();
    for (const { seq } of rows) this.#seen.set(seq, nowMs);
  }

  /** The samples of batches that are new, by series; `more` where there may be others. Call it again until there are not. */
  async read(trx: TenantTransaction): Promise<{ runs: SeriesRun[]; more: boolean }> {
    const { rows } = await sql<{ seq: bigint; data: Buffer }>`
      select seq, data from sample_batches
      where tenant_id = ${this.#tenantId}::uuid and seq > ${this.#floor}
        and seq <> all(${[...this.#seen.keys()].map(String)}::bigint[])
      order by seq limit ${maxBatches}`.execute(trx);
    const pieces = new Map<number, Piece[]>();
    for (const { seq, data } of rows) {
      addPieces(pieces, data);
      this.#seen.set(seq, Date.now());
    }
    this.#settle();
    return {
      runs: [...pieces].map(([ref, list]) => ({ ref, ...joinPieces(list) })),
      more: rows.length === maxBatches,
    };
  }

  /** Forgets numbers below which nothing can appear any more. */
  #settle(): void {
    const beforeMs = Date.now() - settleMs;
    for (const [seq, readAtMs] of this.#seen) {
      if (readAtMs > beforeMs) continue;
      this.#seen.delete(seq);
      if (seq > this.#floor) this.#floor = seq;
    }
  }
}

function addPieces(pieces: Map<number, Piece[]>, data: Buffer): void {
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
}
