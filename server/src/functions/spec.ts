/** What is wanted of a function, out of the requests that make and change it. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { RetryRule } from "../db/schema/functions.ts";
import type {
  CreateFunctionRequest,
  RetryPolicy,
  UpdateFunctionRequest,
} from "../gen/pulsewire/functions/v1/function_pb.js";
import { invalidField } from "../rpc/errors.ts";

export interface RegistryLogin {
  readonly username: string;
  readonly password: string;
}

/** What a container is made from. */
export interface Template {
  readonly image: string;
  readonly command: string[];
  readonly invocationCommand: string[];
  readonly env: Record<string, string>;
  readonly secretEnv: Record<string, string>;
  readonly registry: RegistryLogin | undefined;
  readonly cpuMillicores: number;
  readonly memoryBytes: bigint;
}

/** All that is wanted. */
export interface Spec {
  readonly template: Template;
  readonly replicas: number;
  readonly warmPoolSize: number;
  readonly invocationTimeoutMs: number;
  readonly retryPolicy: RetryRule;
}

/** The defaults that the contract names. */
export const defaults = {
  cpuMillicores: 500,
  memoryBytes: 268_435_456n,
  invocationTimeoutMs: 15 * 60_000,
  retry: { maxAttempts: 1, initialBackoffMs: 1_000, maxBackoffMs: 300_000, multiplier: 2 },
} as const;

/** A retry policy with its defaults. */
export function retryRule(policy: RetryPolicy | undefined): RetryRule {
  const { retry } = defaults;
  return {
    maxAttempts: policy?.maxAttempts || retry.maxAttempts,
    initialBackoffMs: policy?.initialBackoff ? durationMs(policy.initialBackoff) : retry.initialBackoffMs,
    maxBackoffMs: policy?.maxBackoff ? durationMs(policy.maxBackoff) : retry.maxBackoffMs,
    multiplier: policy?.backoffMultiplier || retry.multiplier,
  };
}

export function specOf(request: CreateFunctionRequest): Spec {
  return {
    template: {
      image: request.image,
      command: request.command,
      invocationCommand: request.invocationCommand,
      env: request.env,
      secretEnv: request.secretEnv,
      registry: request.registryCredentials,
      ...resources(request),
    },
    replicas: request.replicas ?? 1,
    warmPoolSize: request.warmPoolSize,
    invocationTimeoutMs: request.invocationTimeout
      ? durationMs(request.invocationTimeout)
      : defaults.invocationTimeoutMs,
    retryPolicy: retryRule(request.retryPolicy),
  };
}

/** The paths that an update is to change: its mask, or, without one, the fields that are not empty (AIP-134). */
export function pathsOfUpdate(request: UpdateFunctionRequest): ReadonlySet<string> {
  if (request.updateMask && request.updateMask.paths.length > 0) return new Set(request.updateMask.paths);
  const given: Record<string, boolean> = {
    image: request.image !== "",
    replicas: request.replicas !== undefined,
    command: request.command.length > 0,
    env: Object.keys(request.env).length > 0,
    secret_env: Object.keys(request.secretEnv).length > 0,
    limits: request.limits !== undefined,
    invocation_command: request.invocationCommand.length > 0,
    invocation_timeout: request.invocationTimeout !== undefined,
    retry_policy: request.retryPolicy !== undefined,
    warm_pool_size: request.warmPoolSize !== 0,
    registry_credentials: request.registryCredentials !== undefined,
  };
  const paths = Object.keys(given).filter((path) => given[path]);
  if (paths.length === 0)
    throw invalidField("update_mask", "nothing is to be changed; give a field, or name it here");
  return new Set(paths);
}

/** What is wanted after an update. Throws INVALID_FIELD. */
export function updatedSpec(before: Spec, request: UpdateFunctionRequest, paths: ReadonlySet<string>): Spec {
  if (paths.has("image") && request.image === "") throw invalidField("image", "a function needs an image");
  const old = before.template;
  const template: Template = {
    image: paths.has("image") ? request.image : old.image,
    command: paths.has("command") ? request.command : old.command,
    invocationCommand: paths.has("invocation_command") ? request.invocationCommand : old.invocationCommand,
    env: paths.has("env") ? request.env : old.env,
    secretEnv: paths.has("secret_env") ? mergedSecrets(old.secretEnv, request.secretEnv) : old.secretEnv,
    registry: paths.has("registry_credentials") ? request.registryCredentials : old.registry,
    ...(paths.has("limits")
      ? resources(request)
      : { cpuMillicores: old.cpuMillicores, memoryBytes: old.memoryBytes }),
  };
  const twice = Object.keys(template.env).find((name) => name in template.secretEnv);
  if (twice !== undefined) {
    throw invalidField("env", `'${twice}' stands in secret_env; a variable stands in one of them`);
  }
  return {
    template,
    replicas: paths.has("replicas") ? (request.replicas ?? 1) : before.replicas,
    warmPoolSize: paths.has("warm_pool_size") ? request.warmPoolSize : before.warmPoolSize,
    invocationTimeoutMs: !paths.has("invocation_timeout")
      ? before.invocationTimeoutMs
      : request.invocationTimeout
        ? durationMs(request.invocationTimeout)
        : defaults.invocationTimeoutMs,
    retryPolicy: paths.has("retry_policy") ? retryRule(request.retryPolicy) : before.retryPolicy,
  };
}

function mergedSecrets(old: Record<string, string>, given: Record<string, string>): Record<string, string> {
  if (Object.keys(given).length === 0) return {};
  const merged = { ...old, ...given };
  return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== ""));
}

function resources({ limits }: Pick<CreateFunctionRequest, "limits">) {
  return {
    cpuMillicores: limits?.cpuMillicores || defaults.cpuMillicores,
    memoryBytes: limits?.memoryBytes || defaults.memoryBytes,
  };
}
