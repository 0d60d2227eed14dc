/** Events whose processing was given up: kept with the reason, listed, and queued again. */
import { type Selectable, sql } from "kysely";
import { newResourceId } from "../../auth/ids.ts";
import { uuidArray } from "../../db/binary-array.ts";
import type { EventDeadLettersTable, EventsTable } from "../../db/schema/ingestion.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

/** Gives an event up; where it was given up before, the new reason counts. */
export async function giveUp(
  trx: TenantTransaction,
  tenantId: string,
  eventRow: string,
  reason: string,
  attempts: number,
): Promise<void> {
  await forgetDeadLetters(trx, tenantId, [eventRow]);
  await trx
    .insertInto("event_dead_letters")
    .values({ tenant_id: tenantId, id: newResourceId(), event_row: eventRow, reason, attempts })
    .execute();
}

/** For events that were processed after all, or are no more. */
export async function forgetDeadLetters(
  trx: TenantTransaction,
  tenantId: string,
  eventRows: readonly string[],
): Promise<void> {
  await sql`
    delete from event_dead_letters
    where tenant_id = ${tenantId} and event_row = any(${uuidArray(eventRows)}::uuid[])`.execute(trx);
}

/** Which dead letters are meant. Empty values do not narrow. */
export interface DeadLetterQuery {
  readonly ids: readonly string[];
  readonly eventType: string;
  readonly reasonContains: string;
  readonly failedFrom: Date | undefined;
  readonly failedUntil: Date | undefined;
}

export type DeadLetterRow = Pick<
  Selectable<EventDeadLettersTable>,
  "id" | "reason" | "attempts" | "failed_at"
> & {
  readonly event: Selectable<EventsTable>;
};

function select(trx: TenantTransaction, tenantId: string, query: DeadLetterQuery) {
  let found = trx
    .selectFrom("event_dead_letters as d")
    .innerJoin("events as e", (join) =>
      join.onRef("e.id", "=", "d.event_row").onRef("e.tenant_id", "=", "d.tenant_id"),
    )
    .where("d.tenant_id", "=", tenantId)
    .where("d.queued", "=", false);
  if (query.ids.length > 0) found = found.where(sql<boolean>`d.id = any(${uuidArray(query.ids)}::uuid[])`);
  if (query.eventType) found = found.where("e.event_type", "=", query.eventType);
  if (query.reasonContains) {
    found = found.where(sql<boolean>`strpos(d.reason, ${query.reasonContains}) > 0`);
  }
  if (query.failedFrom) found = found.where("d.failed_at", ">=", query.failedFrom);
  if (query.failedUntil) found = found.where("d.failed_at", "<", query.failedUntil);
  return found;
}

/** A page of them, newest first, after the one with `afterId` where one is given. */
export async function listDeadLetters(
  trx: TenantTransaction,
  tenantId: string,
  query: DeadLetterQuery,
  limit: number,
  afterId: string | undefined,
): Promise<DeadLetterRow[]> {
  let page = select(trx, tenantId, query)
    .selectAll("e")
    .select(["d.id as letter_id", "d.reason", "d.attempts", "d.failed_at"])
    .orderBy("d.id", "desc")
    .limit(limit);
  if (afterId) page = page.where("d.id", "<", afterId);
  const rows = await page.execute();
  return rows.map(({ letter_id, reason, attempts, failed_at, ...event }) => ({
    id: letter_id,
    reason,
    attempts,
    failed_at,
    event,
  }));
}

export async function countDeadLetters(
  trx: TenantTransaction,
  tenantId: string,
  query: DeadLetterQuery,
): Promise<bigint> {
  const { count } = await select(trx, tenantId, query)
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .executeTakeFirstOrThrow();
  return count;
}

/** Events in one batch of a replay. */
const replayRows = 1_000;

/** Queues dead letters again and returns how many. They remain until they are processed, so that none is lost. */
export async function replayDeadLetters(
  trx: TenantTransaction,
  tenantId: string,
  query: DeadLetterQuery,
): Promise<bigint> {
  const rows = await select(trx, tenantId, query)
    .select(["d.id", "d.event_row"])
    .orderBy("d.event_row")
    .forUpdate("d")
    .execute();
  for (let start = 0; start < rows.length; start += replayRows) {
    const part = rows.slice(start, start + replayRows);
    const ids = part.map(({ event_row }) => event_row);
    await sql`
      update event_dead_letters set queued = true
      where tenant_id = ${tenantId} and id = any(${uuidArray(part.map(({ id }) => id))}::uuid[])`.execute(
      trx,
    );
    await sql`
      insert into event_batches (tenant_id, first_id, last_id, events, event_ids)
      values (${tenantId}, ${ids[0]}, ${ids.at(-1)}, ${ids.length}, ${uuidArray(ids)}::uuid[])`.execute(trx);
  }
  return BigInt(rows.length);
}
