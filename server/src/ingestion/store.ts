import type { Selectable } from "kysely";
import type { EventsTable } from "../db/schema/ingestion.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { firstUuidv7 } from "../db/uuid.ts";
import { eventKey } from "./words.ts";

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
