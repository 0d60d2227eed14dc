import { toJson } from "@bufbuild/protobuf";
import { durationMs, timestampDate, ValueSchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { newResourceId } from "../../auth/ids.ts";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import type { InvocationState } from "../../db/schema/functions.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { FunctionsService } from "../../gen/pulsewire/functions/v1/functions_service_pb.js";
import { InvocationPhase } from "../../gen/pulsewire/functions/v1/invocation_pb.js";
import { countUsage } from "../../metrics/usage/count.ts";
import { allowedUrl, OutboundForbidden } from "../../net/allowed.ts";
import { enterAudit } from "../../rpc/audit.ts";
import { callerOf } from "../../rpc/caller.ts";
import { failure, invalidField, notFound } from "../../rpc/errors.ts";
import { emitWebhookEvent } from "../../webhooks/emit.ts";
import { secretOr } from "../../webhooks/secret.ts";
import { invocationChannel, invocationsChannel, tell } from "../channels.ts";
import { pendingReason } from "../reasons.ts";
import { retryRule } from "../spec.ts";
import { findFunction } from "../store.ts";
import { callbackPurpose } from "../worker/callbacks.ts";
import { invocationEventData, invocationMessage } from "./messages.ts";
import * as store from "./store.ts";
import { untilFinal } from "./wait.ts";

const defaultPageSize = 100;
const defaultWaitMs = 30_000;
const maxInputBytes = 256 * 1024;

export function invocationHandlers(context: Context): Partial<ServiceImpl<typeof FunctionsService>> {
  const { config, db, bus, keyring, logger, usage } = context;

  const read = async (tenantId: string, id: string) => {
    const found = await withTenant(db, tenantId, (trx) => store.getInvocation(trx, tenantId, id));
    if (!found) throw notFound("invocation", id);
    return found;
  };

  const wait = (tenantId: string, id: string, waitMs: number, call: HandlerContext) =>
    untilFinal(context, tenantId, id, waitMs, call);

  return {
    async invokeFunction(request, call) {
      const caller = callerOf(call);
      const { tenantId } = caller;
      const input = request.input && JSON.stringify(toJson(ValueSchema, request.input));
      if (input !== undefined && Buffer.byteLength(input) > maxInputBytes) {
        throw invalidField("input", `has more than ${maxInputBytes} bytes of JSON`, "input.max_bytes");
      }
      await usage.requireBudget(tenantId);
      if (request.callback) requireAllowed(request.callback.url, config.webhooks.allowPrivate);
      const id = newResourceId();
      const secret = request.callback && secretOr(request.callback.secret);
      const sealed = secret && (await keyring.seal(secret, callbackPurpose(id)));
      const made = await withTenant(db, tenantId, async (trx) => {
        const found = await findFunction(trx, tenantId, request.name, { lock: true });
        if (!found) throw notFound("function", request.name);
        const { row: fn, template } = found;
        await requireQueueRoom(await store.countUnfinished(trx, tenantId), config.functions.queuedPerTenant);
        const row = await store.insertInvocation(trx, {
          tenant_id: tenantId,
          id,
          function_id: fn.id,
          template: fn.template,
          job_name: await store.newJobName(trx, tenantId, fn.id, fn.name, id),
          created_by: caller.apiKeyId ?? caller.userId ?? "",
          phase: "PENDING",
          reason: config.functions.runtime ? "waiting for a worker" : pendingReason(config.functions),
          input: input ?? null,
          timeout_ms: request.timeout ? BigInt(durationMs(request.timeout)) : fn.invocation_timeout_ms,
          retry_policy: JSON.stringify(
            request.retryPolicy ? retryRule(request.retryPolicy) : fn.retry_policy,
          ),
          ...(request.callback && {
            callback_url: request.callback.url,
            callback_status: "PENDING" as const,
            sealed_callback_secret: sealed,
          }),
        });
        const details = {
          row,
          attempts: [],
          functionName: fn.name,
          namespace: fn.namespace,
          image: template.image,
        };
        await emitWebhookEvent(trx, tenantId, "function.invoked", invocationEventData(details));
        await countUsage(trx, tenantId, { invocations: 1 });
        await enterAudit(trx, tenantId, call, { resourceId: id });
        return details;
      });
      tell(bus, logger, invocationsChannel, id);
      const waitMs = request.wait ? durationMs(request.wait) : 0;
      const details = waitMs > 0 ? await wait(tenantId, id, waitMs, call) : made;
      return {
        invocation: invocationMessage(details ?? made),
        callbackSecret: request.callback?.secret ? "" : (secret ?? ""),
      };
    },

    async getInvocation({ invocationId }, call) {
      return { invocation: invocationMessage(await read(callerOf(call).tenantId, invocationId)) };
    },

    async listInvocations(request, call) {
      const { tenantId } = callerOf(call);
      const { functionName, phases, createdFrom, createdUntil, pageSize, pageToken } = request;
      const filter = {
        phases: phases.map((phase) => InvocationPhase[phase] as InvocationState),
        createdFrom: createdFrom && timestampDate(createdFrom),
        createdUntil: createdUntil && timestampDate(createdUntil),
      };
      const identity = `invocations ${tenantId} ${JSON.stringify([functionName, filter])}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, async (trx) => {
        const functionIds = functionName
          ? await store.functionIdsByName(trx, tenantId, functionName)
          : undefined;
        if (functionIds?.length === 0) throw notFound("function", functionName);
        return store.listInvocations(trx, tenantId, { ...filter, functionIds }, limit + 1, after);
      });
      const { page, nextPageToken } = pageOf(rows, limit, identity, ({ row }) => [row.id]);
      return { invocations: page.map((row) => invocationMessage(row, { full: false })), nextPageToken };
    },

    async waitInvocation({ invocationId, wait: given }, call) {
      const { tenantId } = callerOf(call);
      const details = await wait(tenantId, invocationId, given ? durationMs(given) : defaultWaitMs, call);
      if (!details) throw notFound("invocation", invocationId);
      return { invocation: invocationMessage(details), done: store.isFinal(details.row.phase) };
    },

    async cancelInvocation({ invocationId, reason }, call) {
      const { tenantId } = callerOf(call);
      const details = await withTenant(db, tenantId, async (trx) => {
        const found = await store.getInvocation(trx, tenantId, invocationId);
        if (!found) throw notFound("invocation", invocationId);
        const why = reason ? `cancelled: ${reason}` : "cancelled";
        const cancelled = await store.cancel(trx, found.row, why);
        const now = cancelled && (await store.getInvocation(trx, tenantId, invocationId));
        const after = now ?? (await store.getInvocation(trx, tenantId, invocationId)) ?? found;
        if (after.row.phase !== "CANCELLED") throw alreadyEnded(after);
        await enterAudit(trx, tenantId, call, { resourceId: invocationId });
        return after;
      });
      tell(bus, logger, invocationsChannel, invocationId);
      tell(bus, logger, invocationChannel(invocationId), "");
      return { invocation: invocationMessage(details) };
    },
  };
}

/** Refuses an address that may never be reached, as far as it tells that itself. Throws INVALID_FIELD. */
function requireAllowed(url: string, allowPrivate: boolean): void {
  try {
    allowedUrl(url, allowPrivate);
  } catch (error) {
    if (!(error instanceof OutboundForbidden)) throw error;
    throw invalidField(
      "callback.url",
      `${error.message}; the operator may allow it with PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS`,
    );
  }
}

function requireQueueRoom(queued: bigint, limit: number): void {
  if (limit === 0 || queued < BigInt(limit)) return;
  throw failure(
    ErrorReason.TENANT_LIMIT,
    `${queued} invocations of the tenant have not ended, which is the most; wait for some, or cancel them`,
    { metadata: { limit: "function_queue" } },
  );
}

function alreadyEnded({ row }: store.InvocationDetails) {
  return failure(
    ErrorReason.FAILED_PRECONDITION,
    `the invocation has ended already (${row.phase}); there is nothing to cancel`,
    { metadata: { resource: "invocation", id: row.id, phase: row.phase } },
  );
}
