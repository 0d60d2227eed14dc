/** Writes the events of many calls in one transaction and tells what became of each. */
import { CompiledQuery, type Kysely, sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import { uuidArray } from "../db/binary-array.ts";
import type { Submission } from "../db/group-commit.ts";
import { pipelineForTenants } from "../db/pipeline.ts";
import type { Database } from "../db/schema.ts";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import { type TenantTransaction, withTenants } from "../db/tenant.ts";
import { countUsage, usageStatement } from "../metrics/usage/count.ts";
import { batchStatement } from "./batches.ts";
import { eventColumns, keyColumns } from "./columns.ts";
import { type EventRow, slot } from "./event-row.ts";
import { compareUuids, uuidText } from "./words.ts";

/** Fills in `status` and `firstId` of the rows, after the commit. */
export type FlushEvents = (submissions: readonly Submission<EventRow, EventRow>[]) => Promise<void>;

/** How long a tenant that has sent something twice is expected to go on so. */
const doubtMs = 2_000;
const maxDoubts = 10_000;

/**
 * Most events are new. So a flush is first written as if all were, in one round trip; an index refuses it where one is not,
 * and then it is written with care. A tenant that sends again what it has sent, as after a break, is not refused each time.
 */
export function createEventFlush(db: Kysely<Database>, pool: Pool): FlushEvents {
  const doubts = new LRUCache<string, true>({ max: maxDoubts, ttl: doubtMs });
  return async (submissions) => {
    const tenants = rowsByTenant(submissions);
    const hopeful = [...tenants].every(([tenantId, { byKey }]) => !doubts.has(tenantId) && allDiffer(byKey));
    if (!hopeful || !(await writeAllAsNew(pool, tenants))) {
      await writeWithCare(db, tenants);
      for (const [tenantId, { rows }] of tenants) {
        if (rows.some(({ status }) => status !== "accepted")) doubts.set(tenantId, true);
      }
    }
    for (const submission of submissions) submission.results = submission.rows;
  };
}

interface TenantRows {
  /** In the order of receipt. */
  readonly rows: readonly EventRow[];
  /** In the order of their keys; of equal keys the first received first. */
  readonly byKey: readonly EventRow[];
}

type RowsByTenant = ReadonlyMap<string, TenantRows>;

/** Always the same order of tenants and keys, so that two flushes never wait for each other crosswise. */
function rowsByTenant(submissions: readonly Submission<EventRow, EventRow>[]): RowsByTenant {
  const grouped = Map.groupBy(submissions, ({ tenantId }) => tenantId);
  return new Map(
    [...grouped.keys()].sort().map((tenantId) => {
      const rows = (grouped.get(tenantId) ?? []).flatMap((call) => call.rows);
      const byKey = rows.toSorted((a, b) => compareAt(slot.key, a, b) || compareAt(slot.id, a, b));
      return [tenantId, { rows, byKey }];
    }),
  );
}

const compareAt = (place: number, one: EventRow, other: EventRow) =>
  compareUuids(one.numbers, one.base + place, other.numbers, other.base + place);

const textAt = (place: number, { numbers, base }: EventRow) => uuidText(numbers, base + place);

function allDiffer(byKey: readonly EventRow[]): boolean {
  for (let index = 1; index < byKey.length; index++) {
    if (compareAt(slot.key, byKey[index - 1] as EventRow, byKey[index] as EventRow) === 0) return false;
  }
  return true;
}

/** False: some event has been sent before, and nothing is written. */
async function writeAllAsNew(pool: Pool, tenants: RowsByTenant): Promise<boolean> {
  const statements = new Map(
    [...tenants].map(([tenantId, { rows, byKey }]) => {
      const own = [
        insertKeys(newKeys, tenantId, byKey),
        insertRows(tenantId, rows),
        batchStatement(tenantId, rows),
        usageStatement(tenantId, { events: rows.length }),
      ];
      return [tenantId, own];
    }),
  );
  try {
    await pipelineForTenants(pool, statements);
    return true;
  } catch (error) {
    if (classifyDatabaseError(error)?.kind === "conflict") return false;
    throw error;
  }
}

async function writeWithCare(db: Kysely<Database>, tenants: RowsByTenant): Promise<void> {
  await withTenants(db, async (enter) => {
    for (const [tenantId, { rows, byKey }] of tenants) {
      const trx = await enter(tenantId);
      await trx.executeQuery(insertKeys(unknownKeys, tenantId, byKey));
      await markRows(trx, tenantId, rows);
      const fresh = rows.filter(({ status }) => status === "accepted");
      if (fresh.length === 0) continue;
      await trx.executeQuery(insertRows(tenantId, fresh));
      await trx.executeQuery(batchStatement(tenantId, fresh));
      await countUsage(trx, tenantId, { events: fresh.length });
    }
  });
}

/** Whose row stands beside its key was first. */
async function markRows(trx: TenantTransaction, tenantId: string, rows: readonly EventRow[]): Promise<void> {
  const keys = new Set(rows.map((row) => textAt(slot.key, row)));
  const found = await trx
    .selectFrom("event_keys")
    .select(["key", "event_row", "digest"])
    .where("tenant_id", "=", tenantId)
    .where(sql<boolean>`key = any(${uuidArray([...keys])}::uuid[])`)
    .execute();
  const first = new Map(found.map((row) => [row.key, row]));
  for (const row of rows) {
    const stored = first.get(textAt(slot.key, row));
    if (!stored) throw new Error("an event is neither new nor known");
    if (stored.event_row === textAt(slot.id, row)) {
      row.status = "accepted";
      row.firstId = undefined;
    } else {
      const same = stored.digest === null || stored.digest === textAt(slot.digest, row);
      row.status = same ? "duplicate" : "conflict";
      row.firstId = stored.event_row;
    }
  }
}

const keyColumnNames = "tenant_id, key, event_row, digest";
// Side by side in the list: as tables in FROM each would be written out in full before it is read.
const unnestKeys = `insert into event_keys (${keyColumnNames})
  select $1::uuid, unnest($2::uuid[]), unnest($3::uuid[]), unnest($4::uuid[])`;
const newKeys = `/* kept as insert_new_event_keys */ ${unnestKeys}`;
const unknownKeys = `/* kept as insert_event_keys */ ${unnestKeys} on conflict do nothing`;

/** Inserts the keys of all rows, or, with `unknownKeys`, of those that have none. */
function insertKeys(text: string, tenantId: string, byKey: readonly EventRow[]): CompiledQuery {
  return CompiledQuery.raw(text, [tenantId, ...keyColumns(byKey)]);
}

const rowsText = `/* kept as insert_events */
  insert into events (tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, encoded,
    metrics, source_service)
  select $1::uuid, unnest($2::uuid[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]), unnest($6::text[]),
    unnest($7::smallint[]), unnest($8::smallint[]), unnest($9::timestamptz[]), unnest($10::bytea[]), unnest($11::json[]),
    unnest($12::text[])`;

function insertRows(tenantId: string, rows: readonly EventRow[]): CompiledQuery {
  return CompiledQuery.raw(rowsText, [tenantId, ...eventColumns(rows)]);
}
