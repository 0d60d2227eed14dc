import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, encodeCursor } from "../../db/cursor.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { FunctionsService } from "../../gen/pulsewire/functions/v1/functions_service_pb.js";
import type { StreamLogsRequest } from "../../gen/pulsewire/functions/v1/log_pb.js";
import { callerOf } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { follow } from "../../rpc/follow.ts";
import { logChannel } from "../channels.ts";
import { getInvocation, isFinal } from "../invocations/store.ts";
import { type FunctionRow, findLatest, getFunction } from "../store.ts";
import { type LineFilter, matchingLines, messagesOf, startOfTail } from "./read.ts";
import { chunksAfter, getLog, hasOpenSources } from "./store.ts";

const keepAliveMs = 15_000;
const defaultTail = 100;
/** Chunks of one read: some thousand lines. */
const chunksAtOnce = 4;

/** Reads logs by cursor: a transaction for each piece, and none while the reader takes its time. */
export function logHandlers({ db, bus }: Context): Partial<ServiceImpl<typeof FunctionsService>> {
  return {
    async *streamLogs(request, call) {
      const { tenantId } = callerOf(call);
      const fn = await withTenant(db, tenantId, (trx) => requireFunction(trx, tenantId, request));
      const filter = filterOf(request);
      const identity = `logs ${tenantId} ${fn.id} ${JSON.stringify(filter)}`;
      const cursorAt = (position: bigint) => encodeCursor(identity, [position.toString()]);
      let after = request.cursor
        ? BigInt(decodeCursor(request.cursor, identity, ["integer"], "cursor")[0] ?? 0)
        : await withTenant(db, tenantId, (trx) => firstPosition(trx, fn, filter, request));
      const over = new AbortController();

      const read = () =>
        withTenant(db, tenantId, async (trx) => {
          // Whether it is over is read first: what comes to be there later is read the next time.
          const isOver = await hasEnded(trx, fn, request);
          const log = await getLog(trx, tenantId, fn.id);
          if (!log) throw notFound("function", request.name || fn.id);
          if (after < log.removed_until) throw cursorExpired(log.removed_until, filter);
          const chunks = await chunksAfter(trx, tenantId, fn.id, filter, after, chunksAtOnce);
          const messages = messagesOf(matchingLines(chunks, after, filter), cursorAt);
          const last = chunks.at(-1);
          const read = last?.last_line ?? after;
          // Where these were all, nothing of what is wanted stands up to the log's end as it was before they were read.
          const reached = chunks.length < chunksAtOnce && log.last_line > read ? log.last_line : read;
          after = reached > after ? reached : after;
          if (isOver && chunks.length < chunksAtOnce) over.abort();
          return messages;
        });

      if (!request.follow) {
        const until =
          (await withTenant(db, tenantId, (trx) => getLog(trx, tenantId, fn.id)))?.last_line ?? 0n;
        while (after < until) {
          call.signal.throwIfAborted();
          yield* await read();
        }
        return;
      }
      const signal = AbortSignal.any([call.signal, over.signal]);
      try {
        yield* follow({
          bus,
          channel: logChannel(fn.id),
          signal,
          read: async () => read(),
          keepAlive: () => messagesOf([], cursorAt, after)[0] as never,
          keepAliveMs,
        });
      } catch (error) {
        if (!over.signal.aborted || call.signal.aborted) throw error;
      }
    },
  };
}

async function requireFunction(
  trx: TenantTransaction,
  tenantId: string,
  { name, functionId, invocationId }: StreamLogsRequest,
): Promise<FunctionRow> {
  const invocation = invocationId ? await getInvocation(trx, tenantId, invocationId) : undefined;
  if (invocationId && !invocation) throw notFound("invocation", invocationId);
  const id = functionId || invocation?.row.function_id;
  const fn = id ? await getFunction(trx, tenantId, id) : await findLatest(trx, tenantId, name);
  // What is named must be one function.
  const fits = fn && (!name || fn.name === name) && (!invocation || invocation.row.function_id === fn.id);
  if (!fits) throw notFound("function", name || functionId);
  return fn;
}

function filterOf({ since, invocationId, replica, stream }: StreamLogsRequest): LineFilter {
  return {
    since: since && timestampDate(since),
    sinceNanos: since && `${since.seconds}${String(since.nanos).padStart(9, "0")}`,
    invocationId,
    replica,
    stream,
  };
}

/** The position before the first line of a new stream. */
async function firstPosition(
  trx: TenantTransaction,
  fn: FunctionRow,
  filter: LineFilter,
  { tail, since }: StreamLogsRequest,
): Promise<bigint> {
  const log = await getLog(trx, fn.tenant_id, fn.id);
  if (!log) throw notFound("function", fn.name);
  const wanted = tail ?? (since ? -1 : defaultTail);
  if (wanted === 0) return log.last_line;
  if (wanted === -1) return log.removed_until;
  return await startOfTail(trx, fn, filter, wanted, log.removed_until);
}

/** Whether no further line can come: the invocation or the deleted function is over and all it wrote has been read. */
async function hasEnded(
  trx: TenantTransaction,
  fn: FunctionRow,
  { invocationId }: StreamLogsRequest,
): Promise<boolean> {
  if (invocationId) {
    const found = await getInvocation(trx, fn.tenant_id, invocationId);
    if (!found) return true;
    return isFinal(found.row.phase) && !(await hasOpenSources(trx, fn.tenant_id, invocationId));
  }
  return (await getLog(trx, fn.tenant_id, fn.id))?.ended ?? true;
}

function cursorExpired(removedUntil: bigint, filter: LineFilter) {
  return failure(
    ErrorReason.CURSOR_EXPIRED,
    `retention has removed lines up to number ${removedUntil}, which follow this cursor; start anew without a cursor`,
    { metadata: { removed_until: String(removedUntil), ...(filter.replica && { replica: filter.replica }) } },
  );
}
