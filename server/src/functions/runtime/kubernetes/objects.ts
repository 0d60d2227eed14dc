/** What we ask a cluster for. */
import type {
  V1Deployment,
  V1EnvVar,
  V1Job,
  V1LimitRange,
  V1NetworkPolicy,
  V1PodSpec,
  V1ResourceQuota,
  V1Secret,
} from "@kubernetes/client-node";
import type { FunctionsConfig } from "../../../config/functions.ts";
import {
  type ContainerSpec,
  runCommand,
  runEnv,
  standardEnv,
  stopGraceSeconds,
  type WantedFunction,
  type WantedRun,
} from "../runtime.ts";
import { deploymentName, installationLabel, labels, labelsOf, namespaceName, runName } from "./names.ts";

export const containerName = "function";
const inputFolder = "/var/run/pulsewire";
const files = { input: `${inputFolder}/input.json`, result: "/dev/termination-log" };
/** How long after its time a Job is ended by the cluster, where no server does it. */
const deadlineSlackSeconds = 300;

type Limits = Pick<
  FunctionsConfig,
  "replicasPerTenant" | "runningPerTenant" | "cpuPerTenant" | "memoryPerTenant"
>;

/** What bounds a tenant's namespace, whoever makes things in it. */
export function boundsOf(namespace: string, installation: string, limits: Limits) {
  const metadata = { name: "pulsewire", namespace, labels: { [installationLabel]: installation } };
  // Rollouts have one pod more, runs come besides.
  const pods = limits.replicasPerTenant && limits.replicasPerTenant * 2 + limits.runningPerTenant;
  const quota: V1ResourceQuota = {
    apiVersion: "v1",
    kind: "ResourceQuota",
    metadata,
    spec: {
      hard: {
        ...(pods > 0 && { pods: String(pods) }),
        ...(limits.cpuPerTenant > 0 && { "limits.cpu": `${limits.cpuPerTenant * 2}m` }),
        ...(limits.memoryPerTenant > 0 && { "limits.memory": String(limits.memoryPerTenant * 2) }),
        "services.nodeports": "0",
        "services.loadbalancers": "0",
      },
    },
  };
  const range: V1LimitRange = {
    apiVersion: "v1",
    kind: "LimitRange",
    metadata,
    spec: {
      limits: [
        {
          type: "Container",
          _default: { cpu: "500m", memory: "256Mi" },
          defaultRequest: { cpu: "100m", memory: "64Mi" },
        },
      ],
    },
  };
  const policy: V1NetworkPolicy = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata,
    spec: {
      podSelector: {},
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ _from: [{ podSelector: {} }] }],
      egress: [
        { to: [{ podSelector: {} }] },
        {
          to: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } } }],
          ports: [
            { protocol: "UDP", port: 53 },
            { protocol: "TCP", port: 53 },
          ],
        },
        {
          // The internet, but neither the cluster nor what stands beside it.
          to: [
            {
              ipBlock: {
                cidr: "0.0.0.0/0",
                except: [
                  "10.0.0.0/8",
                  "100.64.0.0/10",
                  "127.0.0.0/8",
                  "169.254.0.0/16",
                  "172.16.0.0/12",
                  "192.168.0.0/16",
                ],
              },
            },
          ],
        },
      ],
    },
  };
  return [quota, range, policy];
}

/** The variables of a template; they may be secret, so they all are. */
export function envSecret(installation: string, spec: ContainerSpec): V1Secret {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name: secretName(spec),
      namespace: namespaceName(spec.namespace),
      labels: labelsOf(installation, spec, "replica"),
    },
    stringData: standardEnv(spec),
  };
}

/** Undefined where there are no credentials. */
export function registrySecret(installation: string, spec: ContainerSpec): V1Secret | undefined {
  if (!spec.registry) return undefined;
  const host = spec.image.includes("/") ? (spec.image.split("/")[0] ?? "") : "https://index.docker.io/v1/";
  return {
    apiVersion: "v1",
    kind: "Secret",
    type: "kubernetes.io/dockerconfigjson",
    metadata: {
      name: `${secretName(spec)}-pull`,
      namespace: namespaceName(spec.namespace),
      labels: labelsOf(installation, spec, "replica"),
    },
    stringData: {
      ".dockerconfigjson": JSON.stringify({
        auths: { [host]: { username: spec.registry.username, password: spec.registry.password } },
      }),
    },
  };
}

export function deploymentOf(installation: string, wanted: WantedFunction): V1Deployment {
  const podLabels = labelsOf(installation, wanted, "replica");
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: deploymentName(wanted),
      namespace: namespaceName(wanted.namespace),
      labels: podLabels,
    },
    spec: {
      replicas: wanted.replicas,
      revisionHistoryLimit: 1,
      minReadySeconds: 1,
      selector: {
        matchLabels: {
          [installationLabel]: installation,
          [labels.function]: wanted.functionId,
          [labels.kind]: "replica",
        },
      },
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      template: { metadata: { labels: podLabels }, spec: podSpec(wanted, wanted.command, "Always", []) },
    },
  };
}

export function jobOf(installation: string, run: WantedRun): V1Job {
  const podLabels = {
    ...labelsOf(installation, run, "run"),
    [labels.invocation]: run.invocationId,
    [labels.attempt]: String(run.attempt),
  };
  const name = runName(run);
  const { PULSEWIRE_INPUT: input, ...env } = runEnv(run, files);
  const variables: V1EnvVar[] = Object.entries(env).map(([key, value]) => ({ name: key, value }));
  if (input !== undefined) {
    variables.push({ name: "PULSEWIRE_INPUT", valueFrom: { secretKeyRef: { name, key: "input.json" } } });
  }
  const spec = podSpec(run, runCommand(run), "Never", variables);
  const [container] = spec.containers;
  if (container && run.input !== undefined) {
    container.volumeMounts = [{ name: "input", mountPath: inputFolder, readOnly: true }];
    spec.volumes = [{ name: "input", secret: { secretName: name } }];
  }
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, namespace: namespaceName(run.namespace), labels: podLabels },
    spec: {
      backoffLimit: 0,
      activeDeadlineSeconds: Math.ceil(run.timeoutMs / 1000) + deadlineSlackSeconds,
      template: { metadata: { labels: podLabels }, spec },
    },
  };
}

/** The input of a run, which goes with its Job. */
export function inputSecret(job: V1Job, input: string): V1Secret {
  const { name = "", namespace = "", uid = "", labels: own = {} } = job.metadata ?? {};
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name,
      namespace,
      labels: own,
      ownerReferences: [{ apiVersion: "batch/v1", kind: "Job", name, uid }],
    },
    stringData: { "input.json": input },
  };
}

function secretName(spec: ContainerSpec): string {
  return `${deploymentName(spec)}-t${spec.template}`;
}

function podSpec(
  spec: ContainerSpec,
  command: readonly string[],
  restartPolicy: "Always" | "Never",
  env: V1EnvVar[],
): V1PodSpec {
  const name = secretName(spec);
  const own = Object.keys(standardEnv(spec)).map((key) => ({
    name: key,
    valueFrom: { secretKeyRef: { name, key } },
  }));
  const cpu = `${spec.cpuMillicores}m`;
  const memory = String(spec.memoryBytes);
  return {
    restartPolicy,
    terminationGracePeriodSeconds: stopGraceSeconds,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: { seccompProfile: { type: "RuntimeDefault" } },
    ...(spec.registry && { imagePullSecrets: [{ name: `${name}-pull` }] }),
    containers: [
      {
        name: containerName,
        image: spec.image,
        ...(command.length > 0 && { command: [...command] }),
        env: [...own, ...env],
        resources: {
          limits: { cpu, memory },
          requests: { cpu: `${Math.max(1, Math.floor(spec.cpuMillicores / 4))}m`, memory },
        },
        securityContext: {
          allowPrivilegeEscalation: false,
          capabilities: { drop: ["AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP"] },
        },
        terminationMessagePolicy: "File",
      },
    ],
  };
}
