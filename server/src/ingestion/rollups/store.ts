/** Rollups as rows. Whoever writes holds the lock of the tenant's rollups. */
import { sql } from "kysely";
import { bufferArray, int2Array, jsonArray, timestampArray } from "../../db/binary-array.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { RollupRow } from "./cover.ts";
import { decodeEntries, EntryTable } from "./entries.ts";
import { bucketOf, buildDueAt, levelMs } from "./levels.ts";
import { addSummary, decodeSummary, emptySummary, encodeSummary, type Summary } from "./summary.ts";

/** A period while it is added up. */
export interface Rollup {
  readonly entries: EntryTable;
  readonly summary: Summary;
}

/** Whether the entries of a level are in the order of users: minutes are written too often to be sorted each time. */
export const isByUser = (level: number): boolean => level > 0;

/** `maxEntries`: with more it throws TooManyEntries. */
export const emptyRollup = (maxEntries?: number): Rollup => ({
  entries: new EntryTable(maxEntries),
  summary: emptySummary(),
});

/** Adds what stands in the table to minutes, by their start. */
export async function addStoredMinutes(
  trx: TenantTransaction,
  tenantId: string,
  minutes: ReadonlyMap<number, Rollup>,
): Promise<void> {
  const { rows } = await sql<{ bucket: Date; summary: unknown; entries: Buffer }>`
    select bucket, summary, entries from event_rollups
    where tenant_id = ${tenantId} and level = 0 and bucket = any(${timesOf(minutes.keys())}::timestamptz[])`.execute(
    trx,
  );
  for (const { bucket, summary, entries } of rows) {
    const rollup = minutes.get(bucket.getTime()) as Rollup;
    rollup.entries.addAll(decodeEntries(entries));
    addSummary(rollup.summary, decodeSummary(summary));
  }
}

/** The minutes that are there. */
export async function readMinutes(
  trx: TenantTransaction,
  tenantId: string,
  minutes: ReadonlySet<number>,
): Promise<Map<number, Rollup>> {
  const found = new Map([...minutes].map((minute) => [minute, emptyRollup()]));
  await addStoredMinutes(trx, tenantId, found);
  for (const [minute, { entries }] of found) if (entries.size === 0) found.delete(minute);
  return found;
}

/**
 * Writes minutes as they now are, deletes those that are empty, and sees to the longer periods around them: they are
 * deleted, and to be built when they are over.
 */
export async function writeMinutes(
  trx: TenantTransaction,
  tenantId: string,
  minutes: ReadonlyMap<number, Rollup>,
): Promise<void> {
  const full = [...minutes].filter(([, { entries }]) => entries.size > 0);
  await writeRows(
    trx,
    tenantId,
    full.map(([bucketMs, rollup]) => ({ level: 0, bucketMs, rollup })),
  );
  if (full.length < minutes.size) {
    const empty = [...minutes].flatMap(([bucketMs, { entries }]) => (entries.size > 0 ? [] : [bucketMs]));
    await sql`
      delete from event_rollups
      where tenant_id = ${tenantId} and level = 0 and bucket = any(${timesOf(empty)}::timestamptz[])`.execute(
      trx,
    );
  }
  const now = Date.now();
  const around = levelMs.flatMap((_, level) =>
    level === 0
      ? []
      : [...new Set([...minutes.keys()].map((minute) => bucketOf(level, minute)))].map((bucketMs) => ({
          level,
          bucketMs,
        })),
  );
  const levels = int2Array(around.map(({ level }) => level));
  const buckets = timesOf(around.map(({ bucketMs }) => bucketMs));
  await sql`
    delete from event_rollups r using unnest(${levels}::smallint[], ${buckets}::timestamptz[]) as stale (level, bucket)
    where r.tenant_id = ${tenantId} and r.level = stale.level and r.bucket = stale.bucket`.execute(trx);
  await sql`
    insert into event_rollup_builds (tenant_id, level, bucket, due_at)
    select ${tenantId}::uuid, level, bucket, due_at
    from unnest(${levels}::smallint[], ${buckets}::timestamptz[],
      ${timesOf(around.map(({ level, bucketMs }) => buildDueAt(level, bucketMs, now)))}::timestamptz[])
      as t (level, bucket, due_at)
    on conflict do nothing`.execute(trx);
}

/** Writes rows, over those that are there. */
export async function writeRows(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly { readonly level: number; readonly bucketMs: number; readonly rollup: Rollup }[],
): Promise<void> {
  if (rows.length === 0) return;
  await sql`
    insert into event_rollups as r (tenant_id, level, bucket, summary, entries)
    select ${tenantId}::uuid, level, bucket, summary, entries
    from unnest(${int2Array(rows.map(({ level }) => level))}::smallint[],
      ${timesOf(rows.map(({ bucketMs }) => bucketMs))}::timestamptz[],
      ${jsonArray(rows.map(({ rollup }) => encodeSummary(rollup.summary)))}::json[],
      ${bufferArray(rows.map(({ level, rollup }) => rollup.entries.encode(isByUser(level))))}::bytea[]) as t (level, bucket, summary, entries)
    on conflict (tenant_id, level, bucket) do update
      set version = excluded.version, summary = excluded.summary, entries = excluded.entries`.execute(trx);
}

/** The entries of rows, in their order, as bytes. */
export async function readEntries(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly RollupRow[],
): Promise<Buffer[]> {
  if (rows.length === 0) return [];
  const found = await sql<{ entries: Buffer }>`/* kept as read_rollup_entries */
    select entries
    from unnest(${int2Array(rows.map(({ level }) => level))}::smallint[],
      ${timesOf(rows.map(({ bucketMs }) => bucketMs))}::timestamptz[]) with ordinality as wanted (level, bucket, i)
    join event_rollups r on r.tenant_id = ${tenantId}::uuid and r.level = wanted.level and r.bucket = wanted.bucket
    order by i`.execute(trx);
  if (found.rows.length !== rows.length) throw new Error("a rollup has vanished within a snapshot");
  return found.rows.map(({ entries }) => entries);
}

/** As a parameter. */
export const timesOf = (times: Iterable<number>): Buffer =>
  timestampArray([...times].map((ms) => new Date(ms)));
