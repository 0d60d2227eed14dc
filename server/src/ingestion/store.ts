import { type Kysely, type Selectable, sql } from "kysely";
import {
  byteaArray,
  int2Array,
  jsonArray,
  textArray,
  timestampArray,
  uuidArray,
} from "../db/binary-array.ts";
import type { Submission } from "../db/group-commit.ts";
import type { Database, EventsTable } from "../db/schema.ts";
import { type TenantTransaction, withTenants } from "../db/tenant.ts";
import { countUsage } from "../metrics/usage/count.ts";
import { addBatch } from "./batches.ts";
import type { EventRow } from "./event-row.ts";
import { eventKey } from "./ids.ts";

/** What became of a row: `firstId` is the row that is stored under the event id, this one's or an earlier one's. */
export interface EventResult {
  readonly status: "accepted" | "duplicate" | "conflict";
  readonly firstId: string;
}

/** Writes the events of many calls in one transaction and tells what became of each. */
export async function flushEvents(
  db: Kysely<Database>,
  submissions: readonly Submission<EventRow, EventResult>[],
): Promise<void> {
  const byTenant = Map.groupBy(submissions, ({ tenantId }) => tenantId);
  // Always the same order of tenants and keys, so that two flushes never wait for each other crosswise.
  const tenants = [...byTenant.keys()].sort();
  await withTenants(db, async (enter) => {
    for (const tenantId of tenants) {
      const trx = await enter(tenantId);
      const calls = byTenant.get(tenantId) ?? [];
      const resultOf = await insertEvents(
        trx,
        tenantId,
        calls.flatMap(({ rows }) => rows),
      );
      for (const call of calls) call.results = call.rows.map(resultOf);
      const accepted = calls.flatMap(({ results }) => results).filter(({ status }) => status === "accepted");
      await countUsage(trx, tenantId, { events: accepted.length });
    }
  });
}

/** Inserts what is new; the result of each row by its id. The first of equal keys wins, in the order given. */
async function insertEvents(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly EventRow[],
): Promise<(row: EventRow) => EventResult> {
  if (rows.length === 0) return neverAsked;
  const sorted = rows.toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id < b.id ? -1 : 1));
  if ((await insertKeys(trx, tenantId, sorted)) === BigInt(rows.length)) {
    await insertRows(trx, tenantId, rows);
    return ({ id }) => ({ status: "accepted", firstId: id });
  }
  // Not all are new: whose row stands beside its key was first.
  const first = await findKeys(trx, tenantId, rows);
  const fresh = rows.filter(({ key, id }) => first.get(key)?.event_row === id);
  if (fresh.length > 0) await insertRows(trx, tenantId, fresh);
  return ({ id, key, digest }) => {
    const found = first.get(key);
    if (!found) throw new Error("an event is neither new nor known");
    const firstId = found.event_row;
    if (firstId === id) return { status: "accepted", firstId };
    return { status: found.digest.toString("latin1") === digest ? "duplicate" : "conflict", firstId };
  };
}

const neverAsked = (): never => {
  throw new Error("no event was given");
};

async function insertKeys(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly EventRow[],
): Promise<bigint | undefined> {
  const { numAffectedRows } = await sql`/* kept as insert_event_keys */
    insert into event_keys (tenant_id, key, event_row, digest)
    select ${tenantId}::uuid, key, event_row, digest
    from unnest(
      ${uuidArray(column(rows, "key"))}::uuid[], ${uuidArray(column(rows, "id"))}::uuid[],
      ${byteaArray(column(rows, "digest"))}::bytea[]
    ) as t (key, event_row, digest)
    on conflict do nothing`.execute(trx);
  return numAffectedRows;
}

async function insertRows(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly EventRow[],
): Promise<void> {
  await sql`/* kept as insert_events */
    insert into events
      (tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, body, metrics,
        source_service)
    select ${tenantId}::uuid, t.*
    from unnest(
      ${uuidArray(column(rows, "id"))}::uuid[], ${textArray(column(rows, "eventId"))}::text[],
      ${textArray(column(rows, "eventType"))}::text[], ${textArray(column(rows, "userId"))}::text[],
      ${textArray(column(rows, "sessionId"))}::text[], ${int2Array(column(rows, "severity"))}::smallint[],
      ${int2Array(column(rows, "priority"))}::smallint[], ${timestampArray(column(rows, "occurredAt"))}::timestamptz[],
      ${jsonArray(column(rows, "body"))}::json[], ${jsonArray(column(rows, "metrics"))}::json[],
      ${textArray(column(rows, "sourceService"))}::text[]
    ) as t`.execute(trx);
  await addBatch(trx, tenantId, rows);
}

const column = <K extends keyof EventRow>(rows: readonly EventRow[], name: K): EventRow[K][] =>
  rows.map((row) => row[name]);

async function findKeys(trx: TenantTransaction, tenantId: string, rows: readonly EventRow[]) {
  const found = await trx
    .selectFrom("event_keys")
    .select(["key", "event_row", "digest"])
    .where("tenant_id", "=", tenantId)
    .where(sql<boolean>`key = any(${uuidArray([...new Set(column(rows, "key"))])}::uuid[])`)
    .execute();
  return new Map(found.map((row) => [row.key, row]));
}

/** The event with this id, as the sender gave it or as the server made it. */
export async function getEvent(
  trx: TenantTransaction,
  tenantId: string,
  eventId: string,
): Promise<Selectable<EventsTable> | undefined> {
  return await trx
    .selectFrom("event_keys")
    .innerJoin("events", (join) =>
      join
        .onRef("events.id", "=", "event_keys.event_row")
        .onRef("events.tenant_id", "=", "event_keys.tenant_id"),
    )
    .selectAll("events")
    .where("event_keys.tenant_id", "=", tenantId)
    .where("event_keys.key", "=", eventKey(eventId))
    .executeTakeFirst();
}

/** Which events to list. Empty values do not narrow. */
export interface EventQuery {
  readonly eventTypes: readonly string[];
  readonly userId: string;
  readonly sessionId: string;
  readonly sourceService: string;
  readonly minSeverity: number;
  readonly receivedFrom: Date | undefined;
  readonly receivedUntil: Date | undefined;
  readonly oldestFirst: boolean;
}

/** A page of events in the order of receipt, after the event `afterId` where one is given. */
export async function listEvents(
  trx: TenantTransaction,
  tenantId: string,
  query: EventQuery,
  limit: number,
  afterId: string | undefined,
): Promise<Selectable<EventsTable>[]> {
  let select = trx
    .selectFrom("events")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("id", query.oldestFirst ? "asc" : "desc")
    .limit(limit);
  if (afterId) select = select.where("id", query.oldestFirst ? ">" : "<", afterId);
  if (query.receivedFrom) select = select.where("id", ">=", firstUuidv7(query.receivedFrom));
  if (query.receivedUntil) select = select.where("id", "<", firstUuidv7(query.receivedUntil));
  if (query.eventTypes.length > 0) select = select.where("event_type", "in", query.eventTypes);
  if (query.userId) select = select.where("user_id", "=", query.userId);
  if (query.sessionId) select = select.where("session_id", "=", query.sessionId);
  if (query.minSeverity > 0) select = select.where("severity", ">=", query.minSeverity);
  if (query.sourceService) {
    select = select.where("source_service", "=", query.sourceService);
  }
  return await select.execute();
}

/** The least UUIDv7 of a time: ids are in the order of receipt, so times become bounds of ids. */
function firstUuidv7(time: Date): string {
  const hex = Math.max(0, time.getTime()).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7000-8000-000000000000`;
}
