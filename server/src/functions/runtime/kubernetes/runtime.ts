/** Functions in a Kubernetes cluster: a Deployment each, a Job for each attempt of an invocation, a namespace a tenant. */
import type { JsonValue } from "@bufbuild/protobuf";
import {
  ApiException,
  AppsV1Api,
  BatchV1Api,
  CoreV1Api,
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  PatchStrategy,
  type V1Deployment,
  type V1Job,
  type V1Pod,
} from "@kubernetes/client-node";
import type { FunctionsConfig } from "../../../config/functions.ts";
import {
  CannotStart,
  type Found,
  type LogBatch,
  type RunEnd,
  type Runtime,
  RuntimeUnavailable,
  stopGraceSeconds,
  type Unit,
  type WantedFunction,
} from "../runtime.ts";
import { nanosOf, sinceOf, TimedLines, type TimedPosition } from "../timed-lines.ts";
import { createCluster } from "./cluster.ts";
import {
  deploymentName,
  digestAnnotation,
  digestOf,
  installationLabel,
  labels,
  namespaceName,
  runName,
} from "./names.ts";
import {
  boundsOf,
  containerName,
  deploymentOf,
  envSecret,
  inputSecret,
  jobOf,
  registrySecret,
} from "./objects.ts";
import { openLog } from "./open-log.ts";
import { endReason, obstacleOf, statusOf, unitsOf } from "./pods.ts";

const manager = "pulsewire";
/** For how long a caller waits for a pod to start before it is told to look again. */
const patienceMs = 2_000;
const againMs = 500;
/** How long the bounds of a namespace are believed to be there. */
const boundsMs = 600_000;

type Config = Pick<
  FunctionsConfig,
  "kubeconfig" | "replicasPerTenant" | "runningPerTenant" | "cpuPerTenant" | "memoryPerTenant"
>;

/** Reads the configuration of the cluster; connects when first used. */
export function createKubernetesRuntime(config: Config, installation: string): Runtime {
  const kube = loadConfig(config.kubeconfig);
  const objects = KubernetesObjectApi.makeApiClient(kube);
  const core = kube.makeApiClient(CoreV1Api);
  const apps = kube.makeApiClient(AppsV1Api);
  const batch = kube.makeApiClient(BatchV1Api);
  const cluster = createCluster(kube, `${installationLabel}=${installation}`);
  const bounded = new Map<string, number>();
  /** Failures that were counted, by unit. */
  const counted = new Set<string>();

  const reaching = async <T>(call: () => Promise<T>): Promise<T> => {
    try {
      return await call();
    } catch (error) {
      const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } };
      const word = [code, cause?.code].find((one) => typeof one === "string" && /^E[A-Z]+$/.test(one));
      const refused = error instanceof ApiException && (error.code === 401 || error.code === 403);
      if (word === undefined && !refused) throw error;
      const why = refused ? `it refuses us: ${bodyMessage(error)}` : String(word);
      throw new RuntimeUnavailable(
        `the Kubernetes API at ${kube.getCurrentCluster()?.server ?? "?"} cannot be used (${why}); see PULSEWIRE_KUBECONFIG`,
        { cause: error },
      );
    }
  };

  /** Server-side apply: creates or changes, and is the same however often it is done. */
  const put = async <T extends KubernetesObject>(object: T): Promise<T> =>
    (await objects.patch(object, undefined, undefined, manager, true, PatchStrategy.ServerSideApply)) as T;

  /** The tenant's namespace with its bounds. One of this name that is not ours is left alone. */
  const ensureNamespace = async (namespace: string, tenantId: string) => {
    if ((bounded.get(namespace) ?? 0) > Date.now()) return;
    const found = await core.readNamespace({ name: namespace }).catch(unlessMissing);
    if (found && found.metadata?.labels?.[installationLabel] !== installation) {
      throw new CannotStart(
        `the cluster has a namespace '${namespace}' already that Pulsewire did not make; rename or remove it`,
        { wait: false },
      );
    }
    if (found?.metadata?.deletionTimestamp) {
      throw new CannotStart(`the namespace '${namespace}' is being removed`, { wait: true });
    }
    await put({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: {
        name: namespace,
        labels: {
          [installationLabel]: installation,
          [labels.tenant]: tenantId,
          "pod-security.kubernetes.io/enforce": "baseline",
        },
      },
    } as KubernetesObject);
    for (const object of boundsOf(namespace, installation, config)) await put(object);
    bounded.set(namespace, Date.now() + boundsMs);
  };

  const applyDeployment = async (wanted: WantedFunction): Promise<V1Deployment> => {
    const namespace = namespaceName(wanted.namespace);
    const desired = deploymentOf(installation, wanted);
    const digest = digestOf([desired, wanted.env, wanted.registry]);
    const name = deploymentName(wanted);
    const found = await apps.readNamespacedDeployment({ name, namespace }).catch(unlessMissing);
    const isSame =
      found?.metadata?.annotations?.[digestAnnotation] === digest &&
      found.spec?.replicas === wanted.replicas &&
      !found.metadata.deletionTimestamp;
    if (found && isSame) return found;
    await ensureNamespace(namespace, wanted.tenantId);
    await put(envSecret(installation, wanted));
    const pull = registrySecret(installation, wanted);
    if (pull) await put(pull);
    return await put({
      ...desired,
      metadata: { ...desired.metadata, annotations: { [digestAnnotation]: digest } },
    });
  };

  const podOf = async (unit: Unit): Promise<V1Pod | undefined> => {
    const uid = uidOf(unit);
    return cluster.pod(uid) ?? (await cluster.list()).find(({ metadata }) => metadata?.uid === uid);
  };

  const podOfRun = async (job: V1Job): Promise<V1Pod | undefined> => {
    const [invocation, attempt] = [labels.invocation, labels.attempt].map(
      (label) => job.metadata?.labels?.[label] ?? "",
    );
    return (await cluster.list()).find(
      ({ metadata }) =>
        metadata?.labels?.[labels.invocation] === invocation &&
        metadata?.labels?.[labels.attempt] === attempt,
    );
  };

  return {
    name: "kubernetes",

    list: () => reaching(async () => (await cluster.list()).flatMap(unitsOf)),

    watch: (onChange, signal) =>
      reaching(() => cluster.watch((pod) => onChange(pod?.metadata?.labels?.[labels.function]), signal)),

    apply: (wanted, units) =>
      reaching(async (): Promise<Found> => {
        const none = { available: 0, outdated: 0, newFailures: 0, againInMs: undefined };
        let deployment: V1Deployment;
        try {
          deployment = await applyDeployment(wanted);
        } catch (error) {
          if (error instanceof CannotStart) {
            return { ...none, reason: error.message, hopeless: !error.wait, againInMs: 5_000 };
          }
          if (error instanceof ApiException && (error.code === 422 || error.code === 400)) {
            return { ...none, reason: `the cluster refuses it: ${bodyMessage(error)}`, hopeless: true };
          }
          throw error;
        }
        const replicas = units.filter(({ kind }) => kind === "replica");
        const ready = replicas.filter((unit) => unit.ready && unit.state === "running");
        const failed = replicas.filter(({ state, exitCode }) => state === "ended" && exitCode !== undefined);
        const fresh = failed.filter(({ id }) => !counted.has(id));
        for (const { id } of fresh) counted.add(id);
        const available = ready.filter(({ template }) => template === wanted.template).length;
        const outdated = ready.length - available;
        const isDone = available >= wanted.replicas && outdated === 0;
        const obstacle = isDone
          ? undefined
          : (await podsOf(wanted)).map(obstacleOf).find((found) => found !== undefined);
        const quota = deployment.status?.conditions?.find(
          ({ type, status }) => type === "ReplicaFailure" && status === "True",
        );
        const failure = failed.toSorted((a, b) => Number(b.endedAt) - Number(a.endedAt))[0]?.reason ?? "";
        return {
          available,
          outdated,
          newFailures: fresh.length,
          reason: isDone ? "" : (quota?.message ?? obstacle?.reason ?? failure),
          hopeless: !isDone && (obstacle?.hopeless ?? false),
          // Changes are watched; this is for what was missed.
          againInMs: isDone ? undefined : 2_000,
        };
      }),

    retire: (functionId, namespaceGiven, units) =>
      reaching(async () => {
        const namespace = namespaceName(namespaceGiven);
        const labelSelector = `${installationLabel}=${installation},${labels.function}=${functionId}`;
        await apps
          .deleteCollectionNamespacedDeployment({
            namespace,
            labelSelector,
            propagationPolicy: "Background",
          })
          .catch(unlessMissing);
        if (units.some(({ kind }) => kind === "replica")) return false;
        await core.deleteCollectionNamespacedSecret({ namespace, labelSelector }).catch(unlessMissing);
        return true;
      }),

    startRun: (run) =>
      reaching(async () => {
        const namespace = namespaceName(run.namespace);
        const name = runName(run);
        let job = await batch.readNamespacedJob({ name, namespace }).catch(unlessMissing);
        if (!job) {
          await ensureNamespace(namespace, run.tenantId);
          await put(envSecret(installation, run));
          const pull = registrySecret(installation, run);
          if (pull) await put(pull);
          job = await batch
            .createNamespacedJob({ namespace, body: jobOf(installation, run) })
            .catch((error: unknown) => {
              if (error instanceof ApiException && error.code === 409)
                return batch.readNamespacedJob({ name, namespace });
              if (error instanceof ApiException && (error.code === 422 || error.code === 400)) {
                throw new CannotStart(`the cluster refuses it: ${bodyMessage(error)}`, { wait: false });
              }
              throw error;
            });
        }
        if (job.metadata?.labels?.[labels.invocation] !== run.invocationId) {
          throw new CannotStart(`the cluster has a Job '${name}' already that is another's`, { wait: false });
        }
        if (run.input !== undefined) await put(inputSecret(job, run.input));
        for (const until = Date.now() + patienceMs; ; await cluster.changed(againMs)) {
          const pod = await podOfRun(job);
          const state = pod && statusOf(pod)?.state;
          const ended = state?.terminated;
          if (ended && /^(StartError|ContainerCannotRun)$/.test(ended.reason ?? "")) {
            throw new CannotStart(endReason(ended.exitCode, ended.reason, ended.message), { wait: false });
          }
          if (pod && (state?.running || ended)) return unitsOf(pod)[0] as Unit;
          if (Date.now() >= until) {
            const obstacle = pod && obstacleOf(pod);
            throw new CannotStart(obstacle?.reason ?? "the pod is starting", { wait: true });
          }
        }
      }),

    async waitRun(unit, signal): Promise<RunEnd> {
      for (let last = unit; ; ) {
        signal.throwIfAborted();
        const pod = await reaching(() => podOf(unit));
        const now = pod && unitsOf(pod).find(({ id }) => id === unit.id);
        if (!now) {
          const reason = "the pod was removed by somebody else";
          return { exitCode: undefined, reason, startedAt: last.startedAt, endedAt: new Date() };
        }
        if (now.state === "ended") {
          return {
            exitCode: now.exitCode,
            reason: now.exitCode === 0 ? "" : now.reason || "the pod was lost",
            startedAt: now.startedAt,
            endedAt: now.endedAt ?? new Date(),
          };
        }
        last = now;
        await cluster.changed(againMs, signal);
      }
    },

    stop: (unit) =>
      reaching(async () => {
        const { name, namespace } = (await podOf(unit))?.metadata ?? {};
        if (!name || !namespace) return;
        await core
          .deleteNamespacedPod({ name, namespace, gracePeriodSeconds: stopGraceSeconds })
          .catch(unlessMissing);
      }),

    async readResult(unit) {
      const pod = await reaching(() => podOf(unit));
      const message = pod && statusOf(pod)?.state?.terminated?.message;
      // The cluster keeps 4 KiB and does not say whether there was more.
      if (!message) return undefined;
      const bytes = Buffer.from(message);
      return { bytes, truncated: bytes.length >= 4_096 };
    },

    async *readLog(unit, position, signal): AsyncGenerator<LogBatch> {
      let from = position;
      for (;;) {
        const pod = await podOf(unit);
        const { name, namespace } = pod?.metadata ?? {};
        if (!pod || !name || !namespace) return;
        const isCurrent = unit.id === `${uidOf(unit)}/${statusOf(pod)?.restartCount ?? 0}`;
        const now = unitsOf(pod).find(({ id }) => id === unit.id);
        if (!now) return;
        if (now.state === "created") {
          await cluster.changed(againMs, signal);
          continue;
        }
        let some = false;
        for await (const lines of readPodLog(namespace, name, !isCurrent, from, signal)) {
          some = true;
          from = lines.position;
          yield lines;
        }
        signal.throwIfAborted();
        if (!some && now.state === "ended") return;
        if (!some) await cluster.changed(againMs, signal);
      }
    },

    remove: (unit) =>
      reaching(async () => {
        const pod = await podOf(unit);
        const { name, namespace, labels: own = {} } = pod?.metadata ?? {};
        if (!name || !namespace) return;
        if (unit.kind !== "run") {
          // A container before the present one goes by itself; a pod that is over for good is removed.
          if (/^(Failed|Succeeded)$/.test(pod?.status?.phase ?? "")) {
            await core.deleteNamespacedPod({ name, namespace }).catch(unlessMissing);
          }
          return;
        }
        const labelSelector = [labels.invocation, labels.attempt]
          .map((label) => `${label}=${own[label]}`)
          .join(",");
        await batch
          .deleteCollectionNamespacedJob({ namespace, labelSelector, propagationPolicy: "Background" })
          .catch(unlessMissing);
      }),

    close: () => cluster.close(),
  };

  async function podsOf({ functionId }: { functionId: string }): Promise<V1Pod[]> {
    return (await cluster.list()).filter(
      ({ metadata }) => metadata?.labels?.[labels.function] === functionId,
    );
  }

  async function* readPodLog(
    namespace: string,
    pod: string,
    previous: boolean,
    position: JsonValue | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<LogBatch> {
    const lines = new TimedLines(position);
    const since = sinceOf(position as TimedPosition | undefined);
    const query = {
      container: containerName,
      follow: !previous,
      previous,
      sinceTime: since && new Date(Number(since.split(".")[0]) * 1000).toISOString(),
    };
    const response = await openLog(kube, namespace, pod, query, signal);
    if (!response) return;
    let rest: Buffer = Buffer.alloc(0);
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        rest = takeLines(rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk, lines);
        const found = lines.flush();
        if (found) yield found;
      }
      takeLine(rest, lines);
    } finally {
      // What breaks after nobody reads any more breaks nothing.
      response.on("error", () => {}).destroy();
    }
    lines.finish();
    const found = lines.flush();
    if (found) yield found;
  }
}

function takeLines(bytes: Buffer, lines: TimedLines): Buffer {
  let start = 0;
  for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, start)) {
    takeLine(bytes.subarray(start, end), lines);
    start = end + 1;
  }
  return bytes.subarray(start);
}

/** The API gives both streams as one, without saying which a line is of. */
function takeLine(line: Buffer, lines: TimedLines): void {
  const space = line.indexOf(0x20);
  const time = space > 0 && space < 48 ? nanosOf(line.toString("latin1", 0, space)) : undefined;
  if (time !== undefined) lines.take(1, time, line.subarray(space + 1), true);
}

function uidOf({ id }: Unit): string {
  return id.split("/")[0] ?? "";
}

function unlessMissing(error: unknown): undefined {
  if (error instanceof ApiException && error.code === 404) return undefined;
  throw error;
}

function bodyMessage(error: unknown): string {
  const { body } = error as { body?: unknown };
  try {
    const { message } = (typeof body === "string" ? JSON.parse(body) : body) as { message?: string };
    return (message ?? "").slice(0, 500);
  } catch {
    return String(body).slice(0, 500);
  }
}

function loadConfig(file: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (file) config.loadFromFile(file);
  else config.loadFromDefault();
  return config;
}
