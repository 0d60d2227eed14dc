import { toJsonString } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import { encodeCursor } from "../../db/cursor.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import { StoredEventSchema } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { type EventQuery, listEvents } from "../store.ts";
import { storedEvents } from "./stored-events.ts";

const pageSize = 500;
const maxPieceBytes = 1024 * 1024;

/** The events of a query, oldest first, as pieces of NDJSON; holds no transaction between two pieces. */
export async function* exportEvents(
  db: Kysely<Database>,
  tenantId: string,
  query: EventQuery,
  identity: string,
  afterId: string | undefined,
  signal: AbortSignal,
) {
  const encoder = new TextEncoder();
  let after = afterId;
  for (;;) {
    signal.throwIfAborted();
    const page = await withTenant(db, tenantId, async (trx) => {
      const rows = await listEvents(trx, tenantId, query, pageSize, after);
      const events = await storedEvents(trx, tenantId, rows);
      return rows.map(({ id }, index) => ({
        id,
        line: toJsonString(StoredEventSchema, events[index] as never),
      }));
    });
    let lines: Uint8Array[] = [];
    let bytes = 0;
    const piece = (lastId: string) => {
      const ndjson = Buffer.concat(lines);
      const made = { ndjson, lines: lines.length, cursor: encodeCursor(identity, [lastId]) };
      lines = [];
      bytes = 0;
      return made;
    };
    for (const { id, line } of page) {
      const encoded = encoder.encode(`${line}\n`);
      if (bytes > 0 && bytes + encoded.length > maxPieceBytes) yield piece(after as string);
      lines.push(encoded);
      bytes += encoded.length;
      after = id;
    }
    if (bytes > 0) yield piece(after as string);
    if (page.length < pageSize) return;
  }
}
