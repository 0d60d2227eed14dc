import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "pg";
import { EventSchema } from "../../sdk/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { assertRecounted, untilProcessed } from "../helpers/recount.ts";
import { type IngestionClient, send } from "./callers.ts";
import type { Ledger } from "./ledger.ts";

const pageSize = 1_000;
const probes = 10;

/**
 * Checks a round after its fault: what was acknowledged is there once, what is unknown is there once or not at all,
 * through the table and through the API alike.
 */
export async function verifyAcknowledged(
  ledger: Ledger,
  database: Client,
  ingestion: IngestionClient,
): Promise<void> {
  const { rows } = await database.query<{ event_id: string; times: number; encoded: Buffer }>(
    `select event_id, count(*)::int as times, min(encoded) as encoded
     from events where event_type = $1 group by event_id`,
    [ledger.eventType],
  );
  const stored = new Map(rows.map((row) => [row.event_id, row]));
  for (const { event_id, times, encoded } of rows) {
    const { message } = fromBinary(EventSchema, encoded);
    const sent = ledger.events.get(event_id);
    ledger.expect(sent !== undefined, `${event_id} is stored and was never sent`);
    ledger.expect(times === 1, `${event_id} is stored ${times} times`);
    ledger.expect(message === sent?.message, `${event_id} is stored with another body`);
  }
  for (const { eventId } of ledger.acknowledged) {
    ledger.expect(stored.has(eventId), `${eventId} was acknowledged and is lost`);
  }
  for (const call of ledger.calls) {
    const there = call.events.filter(({ eventId }) => stored.has(eventId)).length;
    ledger.expect(there === 0 || there === call.events.length, "a call is stored in part");
  }

  const listed = await listAll(ledger.eventType, ingestion);
  ledger.expect(listed.length === new Set(listed).size, "ListEvents gives an event twice");
  ledger.expect(listed.length === rows.length, `ListEvents gives ${listed.length} of ${rows.length} events`);
  ledger.expect(
    listed.every((id) => stored.has(id)),
    "ListEvents gives an event that is not stored",
  );
  for (const { eventId } of [...ledger.acknowledged.slice(-probes), ...ledger.unknown.slice(-probes)]) {
    const found = await ingestion.getEvent({ eventId }).then(
      ({ event }) => event?.event?.eventId === eventId,
      (error: unknown) => {
        if (ConnectError.from(error).code !== Code.NotFound) throw error;
        return false;
      },
    );
    ledger.expect(found === stored.has(eventId), `GetEvent and the table disagree about ${eventId}`);
  }
}

async function listAll(eventType: string, ingestion: IngestionClient): Promise<string[]> {
  const ids: string[] = [];
  let pageToken = "";
  do {
    const page = await ingestion.listEvents({ filter: { eventTypes: [eventType] }, pageSize, pageToken });
    for (const { event } of page.events) ids.push(event?.eventId ?? "");
    pageToken = page.nextPageToken;
  } while (pageToken);
  return ids;
}

/** Sends the calls without an answer again. Returns how many events turn out to have been stored before. */
export async function sendUnknownAgain(ledger: Ledger, ingestion: IngestionClient): Promise<number> {
  const unanswered = ledger.calls.filter(({ answered }) => !answered);
  const unknown = new Set(ledger.unknown);
  for (const call of unanswered) await send(ingestion, ledger, call);
  return [...unknown].filter(({ answers }) => !answers.includes("accepted")).length;
}

/** When everything was sent again: each event of all rounds has one row and one key. */
export async function verifyTotals(
  ledgers: readonly Ledger[],
  current: Ledger,
  database: Client,
): Promise<void> {
  const { rows } = await database.query<{ events: number; keys: number; ids: number; single: number }>(
    `select (select count(*)::int from events) as events, (select count(*)::int from event_keys) as keys,
       (select count(distinct event_id)::int from events) as ids,
       (select count(*)::int from events e
          full join event_keys k on k.tenant_id = e.tenant_id and k.event_row = e.id
          where e.id is null or k.key is null) as single`,
  );
  const sent = ledgers.reduce((sum, ledger) => sum + ledger.events.size, 0);
  const [found] = rows;
  current.expect(current.unknown.length === 0, `${current.unknown.length} events got no answer at all`);
  current.expect(found?.events === sent, `${found?.events} events are stored, ${sent} were sent`);
  current.expect(found?.ids === sent, `${found?.ids} event ids are stored, ${sent} were sent`);
  current.expect(found?.keys === sent, `${found?.keys} keys are stored, ${sent} were sent`);
  current.expect(found?.single === 0, `${found?.single} events without a key or keys without an event`);
}

const processMs = 60_000;
const hourMs = 3_600_000;

/** Waits until workers have done their part: every event that is stored is in the rollups once, and counted once. */
export async function verifyRollups(
  ledgers: readonly Ledger[],
  current: Ledger,
  database: Client,
  ingestion: IngestionClient,
): Promise<void> {
  const { rows } = await database.query<{ id: string }>("select id from tenants where slug = 'demo'");
  const tenantId = rows[0]?.id ?? "";
  const endMs = (Math.floor(Date.now() / 60_000) + 2) * 60_000;
  const range = { startMs: endMs - hourMs, endMs };
  try {
    await untilProcessed(ingestion, processMs);
    for (const filter of [{}, { userId: "user-a" }]) {
      await assertRecounted(ingestion, database, tenantId, {
        ...range,
        eventType: current.eventType,
        ...filter,
      });
    }
    const { totalIngested, deadLetters } = await ingestion.getIngestStats({});
    const sent = ledgers.reduce((sum, ledger) => sum + ledger.events.size, 0);
    current.expect(Number(totalIngested) === sent, `${totalIngested} events were counted, ${sent} were sent`);
    current.expect(deadLetters === 0n, `${deadLetters} events were given up`);
  } catch (error) {
    current.violations.push(
      `${current.eventType} in the rollups: ${(error as Error).message.split("\n")[0]}`,
    );
  }
}
