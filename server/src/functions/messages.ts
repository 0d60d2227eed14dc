/** Functions as messages. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { etagOf } from "../auth/ids.ts";
import type { RetryRule } from "../db/schema/functions.ts";
import {
  type Function as FunctionMessage,
  FunctionSchema,
  FunctionStatus,
  type RetryPolicy,
  RetryPolicySchema,
} from "../gen/pulsewire/functions/v1/function_pb.js";
import type { FunctionEventData } from "../webhooks/event-types.ts";
import type { FunctionWithTemplate } from "./store.ts";

export function functionMessage({ row, template }: FunctionWithTemplate): FunctionMessage {
  return create(FunctionSchema, {
    id: row.id,
    userId: row.created_by,
    name: row.name,
    namespace: row.namespace,
    image: template.image,
    replicas: row.replicas,
    command: template.command,
    env: template.env,
    status: FunctionStatus[row.status],
    statusReason: row.status_reason,
    availableReplicas: row.available_replicas,
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    secretEnvNames: template.secret_env_names,
    limits: { cpuMillicores: template.cpu_millicores, memoryBytes: template.memory_bytes },
    invocationCommand: template.invocation_command,
    invocationTimeout: durationFromMs(Number(row.invocation_timeout_ms)),
    retryPolicy: retryMessage(row.retry_policy),
    warmPoolSize: row.warm_pool_size,
    hasRegistryCredentials: template.has_registry_credentials,
    runtime: row.runtime,
    generation: row.generation,
    observedGeneration: row.observed_generation,
    ...(row.deleted_at && { deletedAt: timestampFromDate(row.deleted_at) }),
    etag: etagOf(row.wanted_at),
  });
}

export function retryMessage(rule: RetryRule): RetryPolicy {
  return create(RetryPolicySchema, {
    maxAttempts: rule.maxAttempts,
    initialBackoff: durationFromMs(rule.initialBackoffMs),
    maxBackoff: durationFromMs(rule.maxBackoffMs),
    backoffMultiplier: rule.multiplier,
  });
}

/** What webhooks are told of a function: nothing of its environment, which may hold what is not for the receiver. */
export function functionEventData({ row, template }: FunctionWithTemplate): FunctionEventData {
  return {
    function_id: row.id,
    name: row.name,
    namespace: row.namespace,
    user_id: row.created_by,
    image: template.image,
    replicas: row.replicas,
    status: row.status,
    generation: Number(row.generation),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    ...(row.deleted_at && { deleted_at: row.deleted_at.toISOString() }),
  };
}
