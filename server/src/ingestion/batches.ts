/**
 * The contract between those who write events and those who process, watch and export them:
 *
 * Every transaction that inserts into `events` also inserts, for each tenant, one row into `event_batches` with `batchStatement`:
 * the least and the greatest id and the number of the events that it really wrote. `events.batch` and `event_batches.xid` are
 * the number of that transaction and are filled in by the column's default, also with COPY: neither is ever written by
 * hand. So the events of a batch are those of its tenant between its two ids with its number in `batch`, although ids of
 * flushes that run at the same time lie mixed; no index but the primary key is needed for that.
 *
 * `events.metrics` and `events.source_service` are filled in with the row: they are folded and filtered, and `encoded` is not
 * read for that. Nothing else of a row is ever changed.
 */
import { CompiledQuery } from "kysely";
import { type EventRow, slot } from "./event-row.ts";
import { compareUuids, uuidText } from "./words.ts";

/** Notes the events that this transaction has written for the tenant; not to be called for none. */
export function batchStatement(tenantId: string, rows: readonly EventRow[]): CompiledQuery {
  let [first, last] = [rows[0], rows[0]];
  for (const row of rows) {
    if (first === undefined || compareIds(row, first) < 0) first = row;
    if (last === undefined || compareIds(row, last) > 0) last = row;
  }
  if (!first || !last) throw new Error("a batch without events");
  return CompiledQuery.raw(insertBatch, [tenantId, idText(first), idText(last), rows.length]);
}

const compareIds = (one: EventRow, other: EventRow) =>
  compareUuids(one.numbers, one.base + slot.id, other.numbers, other.base + slot.id);

const idText = ({ numbers, base }: EventRow) => uuidText(numbers, base + slot.id);

const insertBatch = `/* kept as insert_event_batch */
  insert into event_batches (tenant_id, first_id, last_id, events) values ($1, $2, $3, $4)`;
