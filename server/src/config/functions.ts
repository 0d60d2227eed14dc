/** What runs functions, and what a tenant may use of it. */
import { join } from "node:path";
import { dataDir } from "./database.ts";
import type { Settings } from "./setting-names.ts";
import { ConfigError, integer, megabyte, oneOf } from "./values.ts";

/** What runs functions. */
export type RuntimeName = "docker" | "kubernetes" | "process";

/** How functions are run, and what a tenant may use. */
export interface FunctionsConfig {
  /** Undefined, the default: functions are accepted and stay PENDING. */
  readonly runtime: RuntimeName | undefined;
  /** Folder of the `process` runtime's files. */
  readonly processDir: string;
  /** Docker Engine API, also Podman's. Default unix:///var/run/docker.sock. */
  readonly dockerHost: string;
  /** `tenant`, the default: each tenant's containers have a bridge network of their own; `none`; or a network's name. */
  readonly dockerNetwork: string;
  /** File; undefined: the cluster that the server runs in, or the usual file. */
  readonly kubeconfig: string | undefined;
  /** Replicas and warm containers of all functions of a tenant. Default 100; 0: without limit, here and below. */
  readonly replicasPerTenant: number;
  /** Processor time of these, thousandths of a core. Default 32,000. */
  readonly cpuPerTenant: number;
  /** Memory of these, bytes. Default 32 GiB. */
  readonly memoryPerTenant: number;
  /** Invocations of a tenant that have not ended; beyond, calls are refused. Default 1,000. */
  readonly queuedPerTenant: number;
  /** Invocations of a tenant that run at the same time; others wait. Default 10. */
  readonly runningPerTenant: number;
  /** How long log lines are kept, milliseconds. Default 7 days. */
  readonly logRetentionMs: number;
  /** How much of a function's log is kept, bytes as stored. Default 256 MiB. */
  readonly logBytes: number;
  /** How much output the Docker engine keeps of one container until it is read, bytes. Default 512 MiB. */
  readonly logBufferBytes: number;
  /** How long invocations and deleted functions are kept, milliseconds. Default 30 days. */
  readonly retentionMs: number;
}

export function functionsConfig(env: Settings): FunctionsConfig {
  return {
    runtime: oneOf(env, "PULSEWIRE_FUNCTIONS_RUNTIME", ["docker", "kubernetes", "process"]),
    processDir: join(dataDir(env), "functions"),
    dockerHost: dockerHost(env),
    dockerNetwork: env.PULSEWIRE_DOCKER_NETWORK ?? "tenant",
    kubeconfig: env.PULSEWIRE_KUBECONFIG,
    replicasPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_REPLICAS", 100, 0, 1_000_000),
    cpuPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_CPU", 32_000, 0, 1_000_000_000),
    memoryPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_MEMORY", 32_768 * megabyte, 0, 2 ** 50),
    queuedPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_QUEUE", 1_000, 0, 1_000_000),
    runningPerTenant: integer(env, "PULSEWIRE_FUNCTIONS_CONCURRENCY", 10, 1, 100_000),
    logRetentionMs: integer(env, "PULSEWIRE_FUNCTIONS_LOG_RETENTION", 7 * 86_400, 1, 3_650 * 86_400) * 1_000,
    logBytes: integer(env, "PULSEWIRE_FUNCTIONS_LOG_BYTES", 256 * megabyte, megabyte, 2 ** 50),
    logBufferBytes: integer(env, "PULSEWIRE_FUNCTIONS_LOG_BUFFER", 512 * megabyte, 16 * megabyte, 2 ** 40),
    retentionMs: integer(env, "PULSEWIRE_FUNCTIONS_RETENTION", 30 * 86_400, 1, 3_650 * 86_400) * 1_000,
  };
}

/** Where the Docker Engine API is. */
function dockerHost({ PULSEWIRE_DOCKER_HOST: text = "unix:///var/run/docker.sock" }: Settings): string {
  if (/^unix:\/\/\/./.test(text) || (URL.canParse(text) && /^(tcp|https?):$/.test(new URL(text).protocol)))
    return text;
  throw new ConfigError(
    `PULSEWIRE_DOCKER_HOST is '${text}'; it must be a socket such as unix:///var/run/docker.sock, or an address such as ` +
      "tcp://127.0.0.1:2375",
  );
}
