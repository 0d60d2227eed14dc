/**
 * Events in the order in which they became visible. Numbers of transactions are given when they begin to write, and commits come
 * in another order, so a number is no position: what is one is a *snapshot*, which says exactly which transactions were visible.
 * What came after a snapshot is what is visible now and was not in it; nothing can slip in between, however long a transaction
 * takes, and nobody waits for the slowest one.
 *
 *   seen ──────── everything visible in it was given ────────▶ target: batch after batch ▶ seen = target
 */
import { type Selectable, sql } from "kysely";
import type { EventsTable } from "../../db/schema/ingestion.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

/** How far a reader has come. */
export interface TailPosition {
  /** Everything visible in this snapshot was given (`pg_snapshot` as text). */
  readonly seen: string;
  /** On the way to the next snapshot: of what that one sees, everything up to this event was given. */
  readonly under?: { readonly target: string; readonly xid: string; readonly id: string };
}

export interface TailStep {
  readonly rows: readonly Selectable<EventsTable>[];
  readonly position: TailPosition;
  /** Whether there is more under way to the snapshot. */
  readonly more: boolean;
}

/** What one step reads at most. */
const step = { batches: 200, events: 500 };

/** The snapshot of the transaction; `isolationLevel` must be repeatable read where more is read in it. */
export async function currentSnapshot(trx: TenantTransaction): Promise<string> {
  const { rows } = await sql<{ snapshot: string }>`select pg_current_snapshot()::text as snapshot`.execute(
    trx,
  );
  return rows[0]?.snapshot as string;
}

/**
 * Which of two snapshots of one database is the later: negative where it is the second. Each sees all that an earlier one sees:
 * the later one has the higher end, or with the same end fewer transactions that still run.
 */
export function compareSnapshots(a: string, b: string): number {
  const [, endA = "0", runningA = ""] = a.split(":");
  const [, endB = "0", runningB = ""] = b.split(":");
  const ends = BigInt(endA) - BigInt(endB);
  if (ends !== 0n) return ends < 0n ? -1 : 1;
  const count = (running: string) => (running === "" ? 0 : running.split(",").length);
  return Math.sign(count(runningB) - count(runningA));
}

/** Reads on from a position, in a transaction with one snapshot; up to `until` where it is given, otherwise up to now. */
export async function readTail(
  trx: TenantTransaction,
  tenantId: string,
  position: TailPosition,
  until?: string,
): Promise<TailStep> {
  const { seen, under } = position;
  const target = under?.target ?? until ?? (await currentSnapshot(trx));
  const [afterXid, afterId] = under ? [under.xid, under.id] : ["0", null];
  const { rows: batches } = await sql<{ xid: string; first_id: string; last_id: string; events: number }>`
    select xid::text, first_id, last_id, events from event_batches
    where tenant_id = ${tenantId} and event_ids is null
      and xid >= greatest(pg_snapshot_xmin(${seen}::pg_snapshot), ${afterXid}::xid8)
      and xid < pg_snapshot_xmax(${target}::pg_snapshot)
      and not pg_visible_in_snapshot(xid, ${seen}::pg_snapshot)
      and pg_visible_in_snapshot(xid, ${target}::pg_snapshot)
      and (xid > ${afterXid}::xid8 or last_id > ${afterId}::uuid)
    order by event_batches.xid, first_id limit ${step.batches}`.execute(trx);
  const taken = firstOf(batches);
  if (taken.length === 0) return { rows: [], position: { seen: target }, more: false };
  const rows = await eventsOf(trx, tenantId, taken, afterXid, afterId);
  const last = rows.length > step.events ? rows[step.events - 1] : undefined;
  if (last) {
    const position = { seen, under: { target, xid: last.batch, id: last.id } };
    return { rows: rows.slice(0, step.events), position, more: true };
  }
  const end = taken.at(-1) as (typeof batches)[number];
  const all = taken.length === batches.length && batches.length < step.batches;
  return all
    ? { rows, position: { seen: target }, more: false }
    : { rows, position: { seen, under: { target, xid: end.xid, id: end.last_id } }, more: true };
}

/** Batches until one step's events are reached. */
function firstOf<B extends { readonly events: number }>(batches: readonly B[]): B[] {
  let events = 0;
  const taken: B[] = [];
  for (const batch of batches) {
    if (taken.length > 0 && events + batch.events > step.events) break;
    taken.push(batch);
    events += batch.events;
  }
  return taken;
}

async function eventsOf(
  trx: TenantTransaction,
  tenantId: string,
  batches: readonly { readonly xid: string; readonly first_id: string; readonly last_id: string }[],
  afterXid: string,
  afterId: string | null,
): Promise<Selectable<EventsTable>[]> {
  const { rows } = await sql<Selectable<EventsTable>>`
    select e.*
    from unnest(${batches.map(({ xid }) => xid)}::xid8[], ${batches.map(({ first_id }) => first_id)}::uuid[],
      ${batches.map(({ last_id }) => last_id)}::uuid[]) with ordinality as b (xid, first_id, last_id, i)
    cross join lateral (
      select * from events e
      where e.tenant_id = ${tenantId} and e.id between b.first_id and b.last_id and e.batch = b.xid
        and (b.xid > ${afterXid}::xid8 or e.id > ${afterId}::uuid)
      order by e.id
    ) as e
    order by i, e.id limit ${step.events + 1}`.execute(trx);
  return rows;
}

/** The batch up to which the log of batches was deleted: a snapshot that does not see all up to it is no start any more. */
export async function isExpired(
  trx: TenantTransaction,
  tenantId: string,
  { seen }: TailPosition,
): Promise<boolean> {
  const { rows } = await sql<{ expired: boolean }>`
    select trimmed_xid >= pg_snapshot_xmin(${seen}::pg_snapshot) as expired
    from event_rollup_state where tenant_id = ${tenantId}`.execute(trx);
  return rows[0]?.expired ?? false;
}
