import type { Selectable } from "kysely";
import type { EventsTable } from "../../db/schema/ingestion.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { StoredEvent } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { rowToEvent } from "../stored-event.ts";
import { statusesOf } from "./status.ts";

/** The events of rows, with how far their processing has come. */
export async function storedEvents(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly Selectable<EventsTable>[],
): Promise<StoredEvent[]> {
  const statuses = await statusesOf(trx, tenantId, rows);
  return rows.map((row, index) => {
    const event = rowToEvent(row);
    event.processingStatus = statuses[index] as StoredEvent["processingStatus"];
    return event;
  });
}
