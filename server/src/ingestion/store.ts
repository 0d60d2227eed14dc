import { type Kysely, type Selectable, sql } from "kysely";
import type { Submission } from "../db/group-commit.ts";
import type { Database, EventsTable } from "../db/schema.ts";
import { type TenantTransaction, withTenants } from "../db/tenant.ts";
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
      const results = await insertEvents(
        trx,
        tenantId,
        calls.flatMap(({ rows }) => rows),
      );
      for (const call of calls) call.results = call.rows.map((row) => results.get(row.id) as EventResult);
    }
  });
}

/** Inserts what is new; the result of each row by its id. The first of equal keys wins, in the order given. */
async function insertEvents(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly EventRow[],
): Promise<Map<string, EventResult>> {
  const sorted = rows.toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id < b.id ? -1 : 1));
  const column = <K extends keyof EventRow>(name: K) => sorted.map((row) => row[name]);
  const { rows: inserted } = await sql<{ event_row: string }>`
    with input as (
      select * from unnest(
        ${column("key")}::uuid[], ${column("id")}::uuid[], ${column("digest")}::bytea[], ${column("eventId")}::text[],
        ${column("eventType")}::text[], ${column("userId")}::text[], ${column("sessionId")}::text[],
        ${column("severity")}::smallint[], ${column("priority")}::smallint[], ${column("occurredAt")}::timestamptz[],
        ${column("body")}::json[]
      ) as t (key, id, digest, event_id, event_type, user_id, session_id, severity, priority, occurred_at, body)
    ), fresh as (
      insert into event_keys (tenant_id, key, event_row, digest)
      select ${tenantId}::uuid, key, id, digest from input
      on conflict do nothing
      returning event_row
    ), stored as (
      insert into events
        (tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, body)
      select ${tenantId}::uuid, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, body
      from input join fresh on fresh.event_row = input.id
    )
    select event_row from fresh`.execute(trx);
  const accepted = new Set(inserted.map(({ event_row }) => event_row));
  const earlier = await findKeys(
    trx,
    tenantId,
    sorted.filter(({ id }) => !accepted.has(id)),
  );
  return new Map(
    rows.map((row): [string, EventResult] => {
      if (accepted.has(row.id)) return [row.id, { status: "accepted", firstId: row.id }];
      const first = earlier.get(row.key);
      if (!first) throw new Error("an event is neither new nor known");
      return [
        row.id,
        { status: first.digest.equals(row.digest) ? "duplicate" : "conflict", firstId: first.event_row },
      ];
    }),
  );
}

async function findKeys(trx: TenantTransaction, tenantId: string, rows: readonly EventRow[]) {
  if (rows.length === 0) return new Map<string, { digest: Buffer; event_row: string }>();
  const found = await trx
    .selectFrom("event_keys")
    .select(["key", "event_row", "digest"])
    .where("tenant_id", "=", tenantId)
    .where(sql<boolean>`key = any(${[...new Set(rows.map(({ key }) => key))]}::uuid[])`)
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
    select = select.where(sql<string>`body -> 'source' ->> 'service'`, "=", query.sourceService);
  }
  return await select.execute();
}

/** The least UUIDv7 of a time: ids are in the order of receipt, so times become bounds of ids. */
function firstUuidv7(time: Date): string {
  const hex = Math.max(0, time.getTime()).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7000-8000-000000000000`;
}
