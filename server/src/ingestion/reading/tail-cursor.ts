import { decodeCursor, encodeCursor } from "../../db/cursor.ts";
import { uuidForm } from "../../db/uuid.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { EventFilter } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { failure } from "../../rpc/errors.ts";
import type { TailPosition } from "./tail-store.ts";

/** What a cursor of a live stream belongs to: the tenant and the filter. */
export function tailIdentity(tenantId: string, filter: EventFilter | undefined): string {
  const { eventTypes = [], userId = "", sessionId = "", sourceService = "", minSeverity = 0 } = filter ?? {};
  return `watch events ${tenantId} ${JSON.stringify([eventTypes, userId, sessionId, sourceService, minSeverity])}`;
}

export function encodePosition(identity: string, { seen, under }: TailPosition): string {
  return encodeCursor(identity, [seen, under?.target ?? "", under?.xid ?? "", under?.id ?? ""]);
}

/** As `pg_snapshot` writes it; more digits than a number of a transaction has would be an error of the database. */
const snapshotForm = /^(\d{1,18}):(\d{1,18}):((\d{1,18}(,\d{1,18})*)?)$/;

/** Throws INVALID_CURSOR. */
export function decodePosition(identity: string, cursor: string): TailPosition {
  const [seen = "", target = "", xid = "", id = ""] = decodeCursor(
    cursor,
    identity,
    ["text", "text", "text", "text"],
    "cursor",
  );
  if (isSnapshot(seen)) {
    if (target === "" && xid === "" && id === "") return { seen };
    if (isSnapshot(target) && /^\d{1,18}$/.test(xid) && uuidForm.test(id))
      return { seen, under: { target, xid, id } };
  }
  throw failure(
    ErrorReason.INVALID_CURSOR,
    "cursor is not a cursor of this stream; leave it empty to start anew",
    {
      metadata: { field: "cursor" },
      violations: [{ field: "cursor", description: "is not a cursor of this stream", rule: "cursor" }],
    },
  );
}

/** The database refuses a snapshot whose numbers are out of order. */
function isSnapshot(text: string): boolean {
  const [, xmin = "", xmax = "", running = ""] = snapshotForm.exec(text) ?? [];
  if (xmin === "" || BigInt(xmin) === 0n || BigInt(xmin) > BigInt(xmax)) return false;
  const numbers = running ? running.split(",").map(BigInt) : [];
  return numbers.every(
    (number, index) =>
      number >= BigInt(xmin) &&
      number < BigInt(xmax) &&
      (index === 0 || number > (numbers[index - 1] as bigint)),
  );
}
