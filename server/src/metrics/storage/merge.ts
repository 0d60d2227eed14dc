/** Merges runs of a day into one, in one transaction. */
import { setImmediate } from "node:timers/promises";
import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { decodeBlock } from "./block.ts";
import { BlockWriter, takeStorage } from "./blocks.ts";
import { joinPieces, type Piece } from "./columns.ts";
import { type DayRun, runsOf, runsToMerge } from "./runs.ts";

/** Merges what is due of a day. The number of runs that were merged; undefined where another process is at it. */
export async function mergeDay(
  trx: TenantTransaction,
  tenantId: string,
  day: string,
  closed: boolean,
): Promise<number | undefined> {
  if (!(await takeStorage(trx, tenantId))) return undefined;
  const runs = runsToMerge(await runsOf(trx, tenantId, day), closed);
  if (runs.length > 0) await mergeRuns(trx, tenantId, day, runs);
  return runs.length;
}

interface BlockKey {
  readonly run: bigint;
  readonly first_ref: bigint;
  readonly min_ms: bigint;
}

async function mergeRuns(
  trx: TenantTransaction,
  tenantId: string,
  day: string,
  runs: readonly DayRun[],
): Promise<void> {
  const numbers = runs.map(({ run }) => run);
  const { rows: blocks } = await sql<BlockKey>`
    select run, first_ref, min_ms from sample_blocks
    where tenant_id = ${tenantId} and day = ${day} and run = any(${numbers}::bigint[])
    order by first_ref, run, min_ms`.execute(trx);
  // Under the greatest number of all, for it must stay where it is in the order; 0 until the old ones are gone.
  const level = Math.max(...runs.map((run) => run.level)) + 1;
  const writer = new BlockWriter(trx, { tenantId, day, run: 0n, level });
  const pending = new Map<number, (Piece & { run: bigint })[]>();
  for (let index = 0; index < blocks.length; index++) {
    const block = blocks[index] as BlockKey;
    for (const { ref, times, values } of await readBlock(trx, tenantId, day, block)) {
      const piece = { run: block.run, times, values, from: 0, to: times.length };
      const list = pending.get(ref);
      if (list) list.push(piece);
      else pending.set(ref, [piece]);
    }
    // No later block has series before the next one's first.
    const next = blocks[index + 1]?.first_ref ?? BigInt(Number.MAX_SAFE_INTEGER);
    const ready = Float64Array.from([...pending.keys()].filter((ref) => ref < Number(next))).sort();
    for (const ref of ready) {
      const pieces = pending.get(ref) as (Piece & { run: bigint })[];
      pending.delete(ref);
      pieces.sort((a, b) => (a.run < b.run ? -1 : a.run > b.run ? 1 : 0));
      await writer.add({ ref, ...joinPieces(pieces) });
    }
    // Calls must not wait for long.
    await setImmediate();
  }
  await writer.finish();
  await sql`delete from sample_blocks
    where tenant_id = ${tenantId} and day = ${day} and run = any(${numbers}::bigint[])`.execute(trx);
  await sql`update sample_blocks set run = ${numbers.at(-1)}
    where tenant_id = ${tenantId} and day = ${day} and run = 0`.execute(trx);
}

async function readBlock(trx: TenantTransaction, tenantId: string, day: string, key: BlockKey) {
  const { rows } = await sql<{ data: Buffer }>`/* kept as read_sample_block */
    select data from sample_blocks where tenant_id = ${tenantId} and day = ${day} and run = ${key.run}
      and first_ref = ${key.first_ref} and min_ms = ${key.min_ms}`.execute(trx);
  return await decodeBlock((rows[0] as { data: Buffer }).data);
}
