/**
 * Watching alerts: first those that are open, then every version of every alert in the order of the commits. A cursor is the number of
 * a change; while the open ones are told, also the last of them.
 */
import { create } from "@bufbuild/protobuf";
import type { Context } from "../../context.ts";
import { decodeCursor, encodeCursor } from "../../db/cursor.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import {
  type WatchAlertsRequest,
  type WatchAlertsResponse,
  WatchAlertsResponseSchema,
} from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import type { Caller } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { follow } from "../../rpc/follow.ts";
import { requireStoreAccess } from "../access.ts";
import { withSilence } from "./alert-handlers.ts";
import { alertOfBody } from "./alert-row.ts";
import { type AlertChangeRow, changesAfter, latestSequence, openAt } from "./alert-store.ts";
import { alertsChannel } from "./changes.ts";
import { currentSilences } from "./silences.ts";

const pageSize = 200;
const keepAliveMs = 10_000;

/** Where a stream stands: after a change, and, before all that were open then are told, after one of these. */
interface Position {
  readonly sequence: bigint;
  /** `first`: none of the open ones is told yet; `done`: all. */
  readonly open: "first" | "done" | { readonly after: string };
}

export function watchAlerts(
  { bus, db, shutdown }: Context,
  caller: Caller,
  { storeId, cursor }: WatchAlertsRequest,
  signal: AbortSignal,
): AsyncIterable<WatchAlertsResponse> {
  const { tenantId } = caller;
  if (storeId) requireStoreAccess(caller, storeId);
  const storeIds = storeId ? [storeId] : caller.storeIds;
  const identity = `watch alerts ${tenantId} ${storeIds.toSorted().join()}`;
  let position = cursor ? readCursor(cursor, identity) : undefined;

  const message = (at: Position, alerts: WatchAlertsResponse["alerts"] = []) =>
    create(WatchAlertsResponseSchema, { alerts, cursor: writeCursor(at, identity) });
  const read = async () => {
    const { next, rows, silences } = await withTenant(
      db,
      tenantId,
      async (trx) => {
        const from = position ?? { sequence: await latestSequence(trx, tenantId), open: "first" as const };
        if (position && position === startedAt) await requireKept(trx, tenantId, from);
        const found = await readAfter(trx, tenantId, storeIds, from);
        return { ...found, silences: await currentSilences(trx, tenantId) };
      },
      { isolationLevel: "repeatable read" },
    );
    const wasOpen = position?.open !== "done";
    position = next;
    // Also where nothing is open: so the caller has a cursor at once.
    if (rows.length === 0 && !(wasOpen && next.open === "done")) return [];
    return [
      message(
        next,
        rows.map(({ body }) => withSilence(alertOfBody(body), silences)),
      ),
    ];
  };
  const startedAt = position;
  return follow({
    bus,
    channel: alertsChannel(tenantId),
    signal: AbortSignal.any([signal, shutdown.signal]),
    read,
    keepAlive: () => message(position ?? { sequence: 0n, open: "first" }),
    keepAliveMs,
  });
}

async function readAfter(
  trx: TenantTransaction,
  tenantId: string,
  storeIds: readonly string[],
  { sequence, open }: Position,
): Promise<{ rows: readonly AlertChangeRow[]; next: Position }> {
  if (open === "done") {
    const rows = await changesAfter(trx, tenantId, storeIds, sequence, pageSize);
    return { rows, next: { sequence: rows.at(-1)?.sequence ?? sequence, open } };
  }
  const after = open === "first" ? undefined : open.after;
  const rows = await openAt(trx, tenantId, storeIds, sequence, after, pageSize);
  const last = rows.at(-1);
  const isFull = last !== undefined && rows.length === pageSize;
  return { rows, next: { sequence, open: isFull ? { after: last.alert_id } : "done" } };
}

/** Throws CURSOR_EXPIRED where changes after the cursor were removed, with their alerts, for their age. */
async function requireKept(trx: TenantTransaction, tenantId: string, { sequence }: Position): Promise<void> {
  const row = await trx
    .selectFrom("alert_evaluations")
    .select(["sequence", "removed_sequence"])
    .where("tenant_id", "=", tenantId)
    .executeTakeFirst();
  if (sequence >= (row?.removed_sequence ?? 0n)) return;
  throw failure(
    ErrorReason.CURSOR_EXPIRED,
    "what changed after this cursor is not kept any more; watch anew without one",
    { metadata: { oldest_cursor: "" } },
  );
}

function writeCursor({ sequence, open }: Position, identity: string): string {
  return encodeCursor(identity, [String(sequence), typeof open === "string" ? open : open.after]);
}

function readCursor(cursor: string, identity: string): Position {
  const [sequence = "", open = ""] = decodeCursor(cursor, identity, ["integer", "text"], "cursor");
  if (open === "first" || open === "done") return { sequence: BigInt(sequence), open };
  // Whatever it is: the cast to a uuid is the database's, so its form is asked for here.
  const [, after = ""] = decodeCursor(cursor, identity, ["integer", "uuid"], "cursor");
  return { sequence: BigInt(sequence), open: { after } };
}
