/**
 * Deletes all that was kept of one user's events. Small transactions, each of which leaves the rollups equal to a recount of the
 * events that are left, so that it may break off anywhere and be called again.
 */
import { type Kysely, sql } from "kysely";
import { timestampArray, uuidArray } from "../db/binary-array.ts";
import type { Database } from "../db/schema.ts";
import { type TenantTransaction, withTenant } from "../db/tenant.ts";
import { timeOfUuidv7 } from "./ids.ts";
import { forgetDeadLetters } from "./processing/dead-letters.ts";
import { decodeEntries } from "./rollups/entries.ts";
import { foldInto, readColumns, resolveNames } from "./rollups/fold.ts";
import { bucketOf } from "./rollups/levels.ts";
import { kinds, NameNumbers } from "./rollups/names.ts";
import { lockRollups, type RollupState, saveState } from "./rollups/state.ts";
import { emptyRollup, type Rollup, readMinutes, writeMinutes } from "./rollups/store.ts";
import { addCount, widen } from "./rollups/summary.ts";

/** Events that one transaction deletes at most. */
const chunkEvents = 2_000;
/** Minutes that one transaction looks through for what is older than the events that are kept. */
const chunkMinutes = 500;
/** How often all is looked through again for events that came meanwhile. */
const maxPasses = 5;

export async function countUserEvents(
  trx: TenantTransaction,
  tenantId: string,
  userId: string,
): Promise<bigint> {
  const { count } = await trx
    .selectFrom("events")
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .where("tenant_id", "=", tenantId)
    .where("user_id", "=", userId)
    .executeTakeFirstOrThrow();
  return count;
}

/** Returns how many events were deleted. Those that come while it runs are deleted with them or remain whole. */
export async function deleteUserEvents(
  db: Kysely<Database>,
  tenantId: string,
  userId: string,
): Promise<bigint> {
  let deleted = 0n;
  for (let pass = 0; pass < maxPasses; pass++) {
    // From here on every fold looks the name up again, so that its row tells whether the user had events since.
    const epoch = await withTenant(db, tenantId, async (trx) => {
      const state = await lockRollups(trx, tenantId);
      state.namesEpoch++;
      await saveState(trx, tenantId, state);
      return state.namesEpoch;
    });
    deleted += await deleteEvents(db, tenantId, userId);
    await purgeOldRollups(db, tenantId, userId);
    if (await forgetName(db, tenantId, userId, epoch)) break;
  }
  return deleted;
}

async function deleteEvents(db: Kysely<Database>, tenantId: string, userId: string): Promise<bigint> {
  let deleted = 0n;
  let after = "00000000-0000-0000-0000-000000000000";
  for (;;) {
    const ids = await withTenant(db, tenantId, async (trx) => {
      const { rows } = await sql<{ id: string }>`
        select id from events where tenant_id = ${tenantId} and id > ${after} and user_id = ${userId}
        order by id limit ${chunkEvents}`.execute(trx);
      return rows.map(({ id }) => id);
    });
    if (ids.length === 0) return deleted;
    after = ids.at(-1) as string;
    deleted += await withTenant(db, tenantId, async (trx) => {
      const state = await lockRollups(trx, tenantId);
      const { rows } = await sql<{ occurred_at: Date }>`
        delete from events where tenant_id = ${tenantId} and id = any(${uuidArray(ids)}::uuid[])
        returning occurred_at`.execute(trx);
      await forgetDeadLetters(trx, tenantId, ids);
      const minutes = new Set(rows.map(({ occurred_at }) => bucketOf(0, occurred_at.getTime())));
      await recountMinutes(trx, tenantId, state, minutes, userId);
      return BigInt(rows.length);
    });
  }
}

/** Makes minutes anew of the events that are left of them. */
async function recountMinutes(
  trx: TenantTransaction,
  tenantId: string,
  state: RollupState,
  minutes: ReadonlySet<number>,
  userId: string,
): Promise<void> {
  const stored = await readMinutes(trx, tenantId, minutes);
  const counted = new Map<number, Rollup>();
  const kept = new Map<number, Rollup>();
  let [firstId, lastId] = ["", ""];
  for (const [minute, { summary }] of stored) {
    if (isPartlyDropped(summary.firstId, state)) continue;
    const rollup = emptyRollup();
    widen(rollup.summary, summary.firstId, summary.lastId);
    counted.set(minute, rollup);
    if (firstId === "" || summary.firstId < firstId) firstId = summary.firstId;
    if (summary.lastId > lastId) lastId = summary.lastId;
  }
  if (counted.size > 0) {
    const starts = timestampArray([...counted.keys()].map((ms) => new Date(ms)));
    const columns = await readColumns(
      trx,
      tenantId,
      sql`e.id between ${firstId} and ${lastId}
        and date_trunc('minute', e.occurred_at, 'UTC') = any(${starts}::timestamptz[])
        and not exists (select from event_batches b where b.tenant_id = e.tenant_id and b.processed_at is null
          and b.event_ids is null and b.xid = e.batch and e.id between b.first_id and b.last_id)
        and not exists (select from event_dead_letters d where d.tenant_id = e.tenant_id and d.event_row = e.id)`,
    );
    const names = await resolveNames(trx, tenantId, state, new NameNumbers(), columns);
    foldInto(counted, columns, { firstId: "", lastId: "" }, names);
  }
  for (const [minute, rollup] of stored) if (!counted.has(minute)) kept.set(minute, rollup);
  if (kept.size > 0) await withoutUser(trx, tenantId, kept, userId);
  await writeMinutes(trx, tenantId, new Map([...counted, ...kept]));
  await saveState(trx, tenantId, state);
}

/** Of such a minute some events are no more, so that it cannot be recounted. */
const isPartlyDropped = (firstId: string, { droppedUntilMs }: RollupState): boolean =>
  timeOfUuidv7(firstId).getTime() < droppedUntilMs;

/** Takes the user's entries out of minutes; metrics remain, for they are of no user. Returns whether there were any. */
async function withoutUser(
  trx: TenantTransaction,
  tenantId: string,
  minutes: Map<number, Rollup>,
  userId: string,
): Promise<Set<number>> {
  const number = await numberOf(trx, tenantId, userId);
  const changed = new Set<number>();
  if (number === undefined) return changed;
  for (const [minute, { entries, summary }] of minutes) {
    const rollup = emptyRollup();
    const { size, types, users, sessions, counts, lasts } = decodeEntries(entries.encode());
    for (let index = 0; index < size; index++) {
      const [type, count] = [types[index] as number, counts[index] as number];
      if (users[index] === number) {
        changed.add(minute);
        continue;
      }
      rollup.entries.add(
        type,
        users[index] as number,
        sessions[index] as number,
        count,
        lasts[index] as number,
      );
      addCount(rollup.summary, type, count);
    }
    for (const [type, sums] of summary.metrics) rollup.summary.metrics.set(type, sums);
    widen(rollup.summary, summary.firstId, summary.lastId);
    minutes.set(minute, rollup);
  }
  return changed;
}

/** Takes the user out of rollups that are older than the events that are kept. */
async function purgeOldRollups(db: Kysely<Database>, tenantId: string, userId: string): Promise<void> {
  let after = new Date(0);
  for (;;) {
    const next = await withTenant(db, tenantId, async (trx) => {
      const state = await lockRollups(trx, tenantId);
      if (!Number.isFinite(state.droppedUntilMs)) return undefined;
      const { rows } = await sql<{ bucket: Date }>`
        select bucket from event_rollups
        where tenant_id = ${tenantId} and level = 0 and bucket > ${after}
          and (summary -> 'ids' ->> 0)::uuid < uuidv7_at(${new Date(state.droppedUntilMs)})
        order by bucket limit ${chunkMinutes}`.execute(trx);
      if (rows.length === 0) return undefined;
      const minutes = await readMinutes(trx, tenantId, new Set(rows.map(({ bucket }) => bucket.getTime())));
      const changed = await withoutUser(trx, tenantId, minutes, userId);
      await writeMinutes(trx, tenantId, new Map([...minutes].filter(([minute]) => changed.has(minute))));
      return rows.at(-1)?.bucket;
    });
    if (!next) return;
    after = next;
  }
}

async function numberOf(
  trx: TenantTransaction,
  tenantId: string,
  userId: string,
): Promise<number | undefined> {
  const row = await trx
    .selectFrom("event_names")
    .select("number")
    .where("tenant_id", "=", tenantId)
    .where("kind", "=", kinds.user)
    .where("name", "=", userId)
    .executeTakeFirst();
  return row?.number;
}

/** Deletes the user's name; false where events of theirs were folded since the epoch began. */
async function forgetName(
  db: Kysely<Database>,
  tenantId: string,
  userId: string,
  epoch: number,
): Promise<boolean> {
  return await withTenant(db, tenantId, async (trx) => {
    const state = await lockRollups(trx, tenantId);
    const used = await trx
      .selectFrom("event_names")
      .select("number")
      .where("tenant_id", "=", tenantId)
      .where("kind", "=", kinds.user)
      .where("name", "=", userId)
      .where("epoch", ">=", epoch)
      .executeTakeFirst();
    if (used) return false;
    await trx
      .deleteFrom("event_names")
      .where("tenant_id", "=", tenantId)
      .where("kind", "=", kinds.user)
      .where("name", "=", userId)
      .execute();
    state.namesEpoch++;
    await saveState(trx, tenantId, state);
    return true;
  });
}
