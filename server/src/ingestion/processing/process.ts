/** Processes claimed batches: all that follows from their events, and that they are processed, in one transaction. */
import { type Kysely, type RawBuilder, sql } from "kysely";
import { uuidArray } from "../../db/binary-array.ts";
import type { Database } from "../../db/schema.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { foldInto, readColumns, resolveNames } from "../rollups/fold.ts";
import type { NameNumbers } from "../rollups/names.ts";
import { lockRollups, type RollupState, saveState } from "../rollups/state.ts";
import { addStoredMinutes, type Rollup, writeMinutes } from "../rollups/store.ts";
import type { Claim, ClaimedBatch } from "./claim.ts";
import { forgetDeadLetters, giveUp } from "./dead-letters.ts";
import { tellWebhooks } from "./tell-webhooks.ts";

/** What one worker works with. */
export interface Processing {
  readonly db: Kysely<Database>;
  readonly worker: string;
  readonly names: NameNumbers;
  /** How often a batch is tried whole; then it is taken apart. */
  readonly maxAttempts: number;
}

const backOffMinMs = 1_000;
const backOffMaxMs = 60_000;

/**
 * Processes what was claimed and returns the number of events. Where the whole fails, each batch is tried alone; a batch
 * that fails is put off, and after the last attempt it is taken apart, so that only those events that fail by themselves
 * are given up. Throws what is no fault of the events, such as a database that is away.
 */
export async function processClaim(processing: Processing, { tenantId, batches }: Claim): Promise<number> {
  const worn = batches.filter(({ attempts }) => attempts > processing.maxAttempts);
  const others = batches.filter(({ attempts }) => attempts <= processing.maxAttempts);
  let events = 0;
  try {
    events += await processWhole(processing, tenantId, others);
  } catch (error) {
    if (!isFaultOfEvents(error)) throw error;
    for (const batch of others) events += await processAlone(processing, tenantId, batch);
  }
  for (const batch of worn) events += await processApart(processing, tenantId, batch);
  return events;
}

async function processAlone(processing: Processing, tenantId: string, batch: ClaimedBatch): Promise<number> {
  try {
    return await processWhole(processing, tenantId, [batch]);
  } catch (error) {
    if (!isFaultOfEvents(error)) throw error;
    await putOff(processing, tenantId, batch, reasonOf(error));
    return 0;
  }
}

async function processWhole(
  { db, worker, names }: Processing,
  tenantId: string,
  batches: readonly ClaimedBatch[],
): Promise<number> {
  if (batches.length === 0) return 0;
  const { events, committed } = await withTenant(db, tenantId, async (trx) => {
    const state = await lockRollups(trx, tenantId);
    const ours = await stillOurs(trx, tenantId, worker, batches);
    const folded = await fold(trx, tenantId, state, names, ours, rowsOf(ours));
    await finish(trx, tenantId, state, ours);
    return { events: sumOf(ours), committed: folded };
  });
  committed.remember();
  return events;
}

/** Halves a batch until what fails is one event, which is given up with its reason. All in one transaction. */
async function processApart(processing: Processing, tenantId: string, batch: ClaimedBatch): Promise<number> {
  const { db, worker, names } = processing;
  return await withTenant(db, tenantId, async (trx) => {
    const state = await lockRollups(trx, tenantId);
    const ours = await stillOurs(trx, tenantId, worker, [batch]);
    if (ours.length === 0) return 0;
    const halve = async (ids: readonly string[]): Promise<void> => {
      if (ids.length === 0) return;
      const before = [...state.lastNumbers];
      await sql`savepoint part`.execute(trx);
      try {
        await fold(trx, tenantId, state, names, ours, sql`e.id = any(${uuidArray(ids)}::uuid[])`, ids);
        await sql`release savepoint part`.execute(trx);
      } catch (error) {
        if (!isFaultOfEvents(error)) throw error;
        await sql`rollback to savepoint part`.execute(trx);
        state.lastNumbers.splice(0, before.length, ...before);
        const middle = ids.length >> 1;
        if (ids.length === 1) {
          await giveUp(trx, tenantId, ids[0] as string, reasonOf(error), batch.attempts);
        } else {
          await halve(ids.slice(0, middle));
          await halve(ids.slice(middle));
        }
      }
    };
    await halve(await idsOf(trx, tenantId, batch));
    await finish(trx, tenantId, state, ours);
    return batch.events;
  });
}

/** Folds the events of the condition into the rollups and hands them on. */
async function fold(
  trx: TenantTransaction,
  tenantId: string,
  state: RollupState,
  names: NameNumbers,
  batches: readonly ClaimedBatch[],
  condition: RawBuilder<unknown>,
  ids?: readonly string[],
): Promise<{ remember(): void }> {
  const columns = await readColumns(trx, tenantId, condition);
  if (columns.size === 0) return { remember() {} };
  const resolved = await resolveNames(trx, tenantId, state, names, columns);
  const minutes = new Map<number, Rollup>();
  foldInto(minutes, columns, rangeOf(batches), resolved);
  await addStoredMinutes(trx, tenantId, minutes);
  await writeMinutes(trx, tenantId, minutes);
  await tellWebhooks(trx, tenantId, condition);
  const replayed = ids ?? batches.flatMap(({ eventIds }) => eventIds ?? []);
  if (replayed.length > 0) await forgetDeadLetters(trx, tenantId, replayed);
  return resolved;
}

/** Locks the batches and leaves out those that another worker has taken over meanwhile. */
async function stillOurs(
  trx: TenantTransaction,
  tenantId: string,
  worker: string,
  batches: readonly ClaimedBatch[],
): Promise<ClaimedBatch[]> {
  const { rows } = await sql<{ xid: string; first_id: string }>`
    select b.xid::text, b.first_id
    from event_batches b join ${keysOf(batches)} on b.xid = k.xid and b.first_id = k.first_id
    where b.tenant_id = ${tenantId} and b.claimed_by = ${worker} and b.processed_at is null
    order by b.xid, b.first_id for update of b`.execute(trx);
  const held = new Set(rows.map(({ xid, first_id }) => `${xid} ${first_id}`));
  return batches.filter(({ xid, firstId }) => held.has(`${xid} ${firstId}`));
}

async function finish(
  trx: TenantTransaction,
  tenantId: string,
  state: RollupState,
  batches: readonly ClaimedBatch[],
): Promise<void> {
  // Replayed events were counted when they came.
  state.accepted += BigInt(sumOf(batches.filter(({ eventIds }) => eventIds === null)));
  await saveState(trx, tenantId, state);
  await sql`
    update event_batches b set processed_at = now(), claimed_by = null, claimed_until = null, error = null
    from ${keysOf(batches)}
    where b.tenant_id = ${tenantId} and b.xid = k.xid and b.first_id = k.first_id`.execute(trx);
}

async function putOff(
  { db, worker }: Processing,
  tenantId: string,
  batch: ClaimedBatch,
  reason: string,
): Promise<void> {
  const delayMs = Math.min(backOffMinMs * 2 ** (batch.attempts - 1), backOffMaxMs);
  await withTenant(db, tenantId, (trx) =>
    sql`
      update event_batches
      set claimed_by = null, claimed_until = null, error = ${reason},
        next_attempt_at = now() + ${delayMs} * interval '1 millisecond'
      where tenant_id = ${tenantId} and xid = ${batch.xid}::xid8 and first_id = ${batch.firstId}
        and claimed_by = ${worker} and processed_at is null`.execute(trx),
  );
}

/** The events of batches, as a condition on `e`. */
function rowsOf(batches: readonly ClaimedBatch[]): RawBuilder<unknown> {
  const listed = batches.flatMap(({ eventIds }) => eventIds ?? []);
  const written = batches.filter(({ eventIds }) => eventIds === null);
  const ofReplays = sql`e.id = any(${uuidArray(listed)}::uuid[])`;
  if (written.length === 0) return ofReplays;
  const { firstId, lastId } = rangeOf(written);
  const ofRanges = sql`e.id between ${firstId} and ${lastId} and exists (
    select from ${keysOf(written)} where k.xid = e.batch and e.id between k.first_id and k.last_id)`;
  return listed.length === 0 ? ofRanges : sql`(${ofReplays} or (${ofRanges}))`;
}

async function idsOf(trx: TenantTransaction, tenantId: string, batch: ClaimedBatch): Promise<string[]> {
  if (batch.eventIds) return [...batch.eventIds];
  const { rows } = await sql<{ id: string }>`
    select id from events where tenant_id = ${tenantId} and id between ${batch.firstId} and ${batch.lastId}
      and batch = ${batch.xid}::xid8 order by id`.execute(trx);
  return rows.map(({ id }) => id);
}

function rangeOf(batches: readonly ClaimedBatch[]): { firstId: string; lastId: string } {
  let [firstId, lastId] = [batches[0]?.firstId ?? "", ""];
  for (const batch of batches) {
    if (batch.firstId < firstId) firstId = batch.firstId;
    if (batch.lastId > lastId) lastId = batch.lastId;
  }
  return { firstId, lastId };
}

function keysOf(batches: readonly ClaimedBatch[]): RawBuilder<unknown> {
  return sql`unnest(${batches.map(({ xid }) => xid)}::xid8[], ${uuidArray(batches.map(({ firstId }) => firstId))}::uuid[],
    ${uuidArray(batches.map(({ lastId }) => lastId))}::uuid[]) as k (xid, first_id, last_id)`;
}

const sumOf = (batches: readonly ClaimedBatch[]): number =>
  batches.reduce((sum, { events }) => sum + events, 0);

/** Everything but a database that is away, busy or full. */
function isFaultOfEvents(error: unknown): boolean {
  const kind = classifyDatabaseError(error)?.kind;
  return kind !== "unavailable" && kind !== "retry" && kind !== "exhausted" && kind !== "timeout";
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 1_000);
}
