/** Invocations as messages. */
import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate, ValueSchema } from "@bufbuild/protobuf/wkt";
import type { InvocationState } from "../../db/schema/functions.ts";
import {
  CallbackStatus,
  type Invocation,
  InvocationPhase,
  InvocationSchema,
} from "../../gen/pulsewire/functions/v1/invocation_pb.js";
import type { InvocationEventData } from "../../webhooks/event-types.ts";
import { retryMessage } from "../messages.ts";
import type { InvocationDetails, InvocationRow } from "./store.ts";

export function invocationMessage(details: InvocationDetails, { full = true } = {}): Invocation {
  const { row, attempts, functionName, namespace, image } = details;
  return create(InvocationSchema, {
    id: row.id,
    jobName: row.job_name,
    functionId: row.function_id,
    functionName,
    namespace,
    userId: row.created_by,
    image,
    phase: InvocationPhase[row.phase],
    reason: row.reason,
    ...(full && row.input !== null && { input: fromJson(ValueSchema, row.input as JsonValue) }),
    ...(full && row.result !== null && { result: fromJson(ValueSchema, row.result as JsonValue) }),
    resultTruncated: row.result_truncated,
    ...(row.exit_code !== null && { exitCode: row.exit_code }),
    attempts: attempts.map((attempt) => ({
      number: attempt.number,
      phase: InvocationPhase[attempt.phase],
      reason: attempt.reason,
      ...(attempt.exit_code !== null && { exitCode: attempt.exit_code }),
      replica: attempt.replica,
      ...(attempt.started_at && { startedAt: timestampFromDate(attempt.started_at) }),
      ...(attempt.finished_at && { finishedAt: timestampFromDate(attempt.finished_at) }),
    })),
    retryPolicy: retryMessage(row.retry_policy),
    timeout: durationFromMs(Number(row.timeout_ms)),
    durations: durations(row),
    ...(row.callback_url !== null && {
      callback: {
        url: row.callback_url,
        status: CallbackStatus[row.callback_status ?? "PENDING"],
        attempts: row.callback_attempts,
        lastError: row.callback_error,
        ...(row.callback_delivered_at && { deliveredAt: timestampFromDate(row.callback_delivered_at) }),
        ...(row.callback_due_at && { nextAttemptAt: timestampFromDate(row.callback_due_at) }),
      },
    }),
    createdAt: timestampFromDate(row.created_at),
    ...(row.started_at && { startedAt: timestampFromDate(row.started_at) }),
    ...(row.finished_at && { finishedAt: timestampFromDate(row.finished_at) }),
    ...(row.phase === "RETRYING" && row.due_at && { nextAttemptAt: timestampFromDate(row.due_at) }),
  });
}

/** The phase under way counts until now. */
function durations(row: InvocationRow) {
  const current = row.finished_at ? 0 : Math.max(0, Date.now() - row.phase_at.getTime());
  const spent = (ms: bigint, phase: InvocationState) =>
    durationFromMs(Number(ms) + (row.phase === phase ? current : 0));
  return {
    pending: spent(row.pending_ms, "PENDING"),
    starting: spent(row.starting_ms, "STARTING"),
    running: spent(row.running_ms, "RUNNING"),
    retrying: spent(row.retrying_ms, "RETRYING"),
    total: durationFromMs(Math.max(0, (row.finished_at?.getTime() ?? Date.now()) - row.created_at.getTime())),
  };
}

/** What webhooks are told of an invocation: neither input nor result, which may hold what is not for the receiver. */
export function invocationEventData(details: InvocationDetails): InvocationEventData {
  const { row, functionName, namespace } = details;
  return {
    function_id: row.function_id,
    name: functionName,
    invocation_id: row.id,
    job_name: row.job_name,
    namespace,
    user_id: row.created_by,
    phase: row.phase,
    reason: row.reason,
    attempts: row.attempt,
    ...(row.exit_code !== null && { exit_code: row.exit_code }),
    created_at: row.created_at.toISOString(),
    ...(row.finished_at && { finished_at: row.finished_at.toISOString() }),
  };
}

/** The body of a callback: the invocation in ProtoJSON. */
export function callbackBody(details: InvocationDetails): string {
  return JSON.stringify(toJson(InvocationSchema, invocationMessage(details)));
}
