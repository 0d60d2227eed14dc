/** Logs in the database: chunks, how far containers were read, and what is kept. */
import { type Selectable, sql } from "kysely";
import type { FunctionLogsTable, LogChunksTable, LogSourcesTable } from "../../db/schema/functions.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { RawLine, Unit } from "../runtime/runtime.ts";
import { dateOf, encodeLines } from "./chunk.ts";

export type ChunkRow = Selectable<LogChunksTable>;
export type LogRow = Selectable<FunctionLogsTable>;
export type SourceRow = Selectable<LogSourcesTable>;

/** How far a container has been read; makes the record where there is none. */
export async function openSource(trx: TenantTransaction, unit: Unit): Promise<SourceRow> {
  await trx
    .insertInto("log_sources")
    .values({
      tenant_id: unit.tenantId,
      function_id: unit.functionId,
      unit_id: unit.id,
      replica: unit.replica,
      invocation_id: unit.invocationId ?? null,
      attempt: unit.attempt,
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return trx
    .selectFrom("log_sources")
    .selectAll()
    .where("tenant_id", "=", unit.tenantId)
    .where("function_id", "=", unit.functionId)
    .where("unit_id", "=", unit.id)
    .executeTakeFirstOrThrow();
}

/**
 * Adds lines and moves the position of their container with them, in one statement: either both or none. The log's row is
 * locked until the commit, so that numbers become visible in their order.
 */
export async function appendLines(
  trx: TenantTransaction,
  unit: Unit,
  lines: readonly RawLine[],
  position: unknown,
): Promise<void> {
  const stored = encodeLines(lines);
  const [first, last] = [lines[0], lines.at(-1)];
  if (!first || !last) return;
  const { rows } = await sql<{ last_line: bigint }>`
    with log as (
      update function_logs set last_line = last_line + ${lines.length}, bytes = bytes + ${stored.length}
      where tenant_id = ${unit.tenantId} and function_id = ${unit.functionId}
      returning last_line
    ), source as (
      update log_sources set position = ${JSON.stringify(position)}::jsonb, read_at = now()
      where tenant_id = ${unit.tenantId} and function_id = ${unit.functionId} and unit_id = ${unit.id}
    )
    insert into log_chunks (tenant_id, function_id, first_line, last_line, first_at, last_at, replica, invocation_id, attempt, lines)
    select ${unit.tenantId}, ${unit.functionId}, last_line - ${lines.length - 1}, last_line, ${dateOf(first.time)},
      ${dateOf(last.time)}, ${unit.replica}, ${unit.invocationId ?? null}::uuid, ${unit.attempt}, ${stored}
    from log returning last_line`.execute(trx);
  if (rows.length !== 1) throw new Error(`the function ${unit.functionId} has no log`);
}

/** All of a container has been read. */
export async function endSource(trx: TenantTransaction, unit: Unit): Promise<void> {
  await trx
    .updateTable("log_sources")
    .set({ ended: true, read_at: sql`now()` })
    .where("tenant_id", "=", unit.tenantId)
    .where("function_id", "=", unit.functionId)
    .where("unit_id", "=", unit.id)
    .execute();
}

export function getLog(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
): Promise<LogRow | undefined> {
  return trx
    .selectFrom("function_logs")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("function_id", "=", functionId)
    .executeTakeFirst();
}

export interface ChunkFilter {
  readonly since: Date | undefined;
  readonly invocationId: string;
  readonly replica: string;
}

function chunks(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  { since, invocationId, replica }: ChunkFilter,
) {
  let select = trx
    .selectFrom("log_chunks")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("function_id", "=", functionId);
  if (since) select = select.where("last_at", ">=", since);
  if (invocationId) select = select.where("invocation_id", "=", invocationId);
  if (replica) select = select.where("replica", "=", replica);
  return select;
}

/** Chunks with lines after a number, in order. */
export function chunksAfter(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  filter: ChunkFilter,
  after: bigint,
  limit: number,
): Promise<ChunkRow[]> {
  return chunks(trx, tenantId, functionId, filter)
    .where("last_line", ">", after)
    .orderBy("last_line")
    .limit(limit)
    .execute();
}

/** Chunks that end before a number, the latest first. */
export function chunksBefore(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  filter: ChunkFilter,
  before: bigint | undefined,
  limit: number,
): Promise<ChunkRow[]> {
  let select = chunks(trx, tenantId, functionId, filter);
  if (before !== undefined) select = select.where("last_line", "<", before);
  return select.orderBy("last_line", "desc").limit(limit).execute();
}

/** Whether containers of an invocation have still to be read. */
export async function hasOpenSources(
  trx: TenantTransaction,
  tenantId: string,
  invocationId: string,
): Promise<boolean> {
  const open = await trx
    .selectFrom("log_sources")
    .select("unit_id")
    .where("tenant_id", "=", tenantId)
    .where("invocation_id", "=", invocationId)
    .where("ended", "=", false)
    .limit(1)
    .executeTakeFirst();
  return open !== undefined;
}

/** Nothing more will come. */
export async function endLog(trx: TenantTransaction, tenantId: string, functionId: string): Promise<void> {
  await trx
    .updateTable("function_logs")
    .set({ ended: true })
    .where("tenant_id", "=", tenantId)
    .where("function_id", "=", functionId)
    .execute();
}

/** Removes what is older than `maxAgeMs` and, the oldest first, what goes beyond `maxBytes`. */
export async function trimLog(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  { maxAgeMs, maxBytes }: { maxAgeMs: number; maxBytes: number },
): Promise<void> {
  await sql`
    with sized as (
      select last_line, written_at, sum(length(lines)) over (order by last_line desc) as kept
      from log_chunks where tenant_id = ${tenantId} and function_id = ${functionId}
    ), cut as (
      select max(last_line) as until from sized
      where kept > ${maxBytes} or written_at < now() - ${maxAgeMs} * interval '1 millisecond'
    ), removed as (
      delete from log_chunks using cut
      where tenant_id = ${tenantId} and function_id = ${functionId} and last_line <= cut.until
      returning length(lines) as bytes
    )
    update function_logs set removed_until = greatest(removed_until, cut.until),
      bytes = bytes - (select coalesce(sum(bytes), 0) from removed)
    from cut
    where tenant_id = ${tenantId} and function_id = ${functionId} and cut.until is not null`.execute(trx);
  await sql`
    delete from log_sources where tenant_id = ${tenantId} and function_id = ${functionId} and ended
      and read_at < now() - ${maxAgeMs} * interval '1 millisecond'`.execute(trx);
}
