/**
 * A node for a control plane, in place of a kubelet: runs the one container of each pod that is scheduled to it on a Docker
 * engine, tells how it is, and gives its log to the API server. What it does not prove: everything else that a kubelet does.
 */
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  CoreV1Api,
  type KubeConfig,
  makeInformer,
  PatchStrategy,
  setHeaderOptions,
  type V1ContainerStatus,
  type V1Pod,
} from "@kubernetes/client-node";
import type Dockerode from "dockerode";
import { generate } from "selfsigned";

const nodeName = "test-node";
const capacity = { cpu: "64", memory: "64Gi", pods: "500" };

export async function startNode(kube: KubeConfig, docker: Dockerode): Promise<AsyncDisposable> {
  const core = kube.makeApiClient(CoreV1Api);
  const folder = await mkdtemp(path.join(tmpdir(), "pulsewire-node-"));
  const merge = setHeaderOptions("Content-Type", PatchStrategy.StrategicMergePatch);
  const running = new Map<string, Promise<void>>();
  const containers = new Map<string, Dockerode.Container>();
  let closed = false;

  const { private: key, cert } = await generate([{ name: "commonName", value: "localhost" }]);
  const logs = createServer({ key, cert }, (req, res) => {
    const url = new URL(req.url ?? "/", "https://node");
    const [, kind, namespace, pod] = url.pathname.split("/");
    const container = containers.get(`${namespace}/${pod}`);
    if (kind !== "containerLogs" || !container) {
      res.writeHead(404).end();
      return;
    }
    const since = url.searchParams.get("sinceTime");
    sendLog(container, since, res).catch(() => res.destroy());
  }).listen(0, "127.0.0.1");
  await once(logs, "listening");
  const { port } = logs.address() as AddressInfo;

  await core.createNode({ body: { apiVersion: "v1", kind: "Node", metadata: { name: nodeName } } });
  const ready = { type: "Ready", status: "True", reason: "Test", lastHeartbeatTime: new Date() };
  await core.patchNodeStatus(
    {
      name: nodeName,
      body: {
        status: {
          capacity,
          allocatable: capacity,
          conditions: [ready],
          addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
          daemonEndpoints: { kubeletEndpoint: { Port: port } },
        },
      },
    },
    merge,
  );
  const { spec } = await core.readNode({ name: nodeName });
  if (spec?.taints) await core.patchNode({ name: nodeName, body: { spec: { taints: null } } }, merge);

  const tell = async (pod: V1Pod, phase: string, status: Partial<V1ContainerStatus>) => {
    const isReady = status.ready === true;
    const condition = (type: string) => ({
      type,
      status: isReady ? "True" : "False",
      lastTransitionTime: new Date(),
    });
    const [container] = pod.spec?.containers ?? [];
    const body = {
      status: {
        phase,
        startTime: new Date(),
        conditions: [condition("Ready"), condition("ContainersReady")],
        containerStatuses: [
          {
            name: container?.name,
            image: container?.image,
            imageID: "",
            restartCount: 0,
            ready: isReady,
            ...status,
          },
        ],
      },
    };
    await core
      .patchNamespacedPodStatus({ name: nameOf(pod), namespace: namespaceOf(pod), body }, merge)
      .catch((error: { code?: number }) => {
        if (error.code !== 404) throw error;
      });
  };

  const run = async (pod: V1Pod) => {
    const home = path.join(folder, pod.metadata?.uid ?? "");
    for (let restart = 0; !closed; restart++) {
      const container = await makeContainer(pod, `${home}-${restart}`).catch(async (error: Error) => {
        const isImage = /No such image/.test(error.message);
        const reason = isImage ? "ErrImagePull" : "CreateContainerError";
        await tell(pod, "Pending", { state: { waiting: { reason, message: error.message } } });
      });
      if (!container) return;
      containers.set(`${namespaceOf(pod)}/${nameOf(pod)}`, container);
      try {
        await container.start();
      } catch (error) {
        const message = (error as Error).message;
        const terminated = {
          exitCode: 128,
          reason: "StartError",
          message,
          startedAt: new Date(),
          finishedAt: new Date(),
        };
        await tell(pod, "Failed", { restartCount: restart, state: { terminated } });
        return;
      }
      const { State } = await container.inspect();
      const startedAt = new Date(State.StartedAt);
      await tell(pod, "Running", {
        restartCount: restart,
        ready: true,
        started: true,
        state: { running: { startedAt } },
      });
      await container.wait();
      const ended = (await container.inspect()).State;
      const message = (await readFile(`${path.join(`${home}-${restart}`, "termination-log")}`, "utf8")).slice(
        0,
        4_096,
      );
      const terminated = {
        exitCode: ended.ExitCode,
        reason: ended.ExitCode === 0 ? "Completed" : "Error",
        startedAt,
        finishedAt: new Date(ended.FinishedAt),
        ...(message && { message }),
      };
      const current = await core
        .readNamespacedPod({ name: nameOf(pod), namespace: namespaceOf(pod) })
        .catch(() => undefined);
      const isOver = pod.spec?.restartPolicy === "Never" || !current || current.metadata?.deletionTimestamp;
      await tell(pod, isOver ? (ended.ExitCode === 0 ? "Succeeded" : "Failed") : "Running", {
        restartCount: restart,
        state: { terminated },
      });
      if (isOver) return;
      await tell(pod, "Running", {
        restartCount: restart + 1,
        state: { waiting: { reason: "CrashLoopBackOff", message: "back-off" } },
        lastState: { terminated },
      });
    }
  };

  const makeContainer = async (pod: V1Pod, home: string): Promise<Dockerode.Container> => {
    const [container] = pod.spec?.containers ?? [];
    await mkdir(home, { recursive: true });
    await writeFile(path.join(home, "termination-log"), "", { mode: 0o666 });
    const namespace = namespaceOf(pod);
    const secret = async (name: string) => (await core.readNamespacedSecret({ name, namespace })).data ?? {};
    const env: string[] = [];
    for (const { name, value, valueFrom } of container?.env ?? []) {
      const ref = valueFrom?.secretKeyRef;
      const text = ref
        ? Buffer.from((await secret(ref.name ?? ""))[ref.key] ?? "", "base64").toString()
        : (value ?? "");
      env.push(`${name}=${text}`);
    }
    const binds = [`${path.join(home, "termination-log")}:/dev/termination-log`];
    for (const { name, mountPath } of container?.volumeMounts ?? []) {
      const volume = pod.spec?.volumes?.find((each) => each.name === name);
      const mounted = path.join(home, name);
      await mkdir(mounted);
      for (const [file, data] of Object.entries(await secret(volume?.secret?.secretName ?? ""))) {
        await writeFile(path.join(mounted, file), Buffer.from(data, "base64"));
      }
      binds.push(`${mounted}:${mountPath}:ro`);
    }
    const [entry, ...args] = container?.command ?? [];
    return await docker.createContainer({
      Image: container?.image ?? "",
      Env: env,
      ...(entry && { Entrypoint: [entry], Cmd: args }),
      HostConfig: { Binds: binds, NetworkMode: "none" },
    });
  };

  const end = async (pod: V1Pod) => {
    const container = containers.get(`${namespaceOf(pod)}/${nameOf(pod)}`);
    await container?.stop({ t: pod.metadata?.deletionGracePeriodSeconds ?? 10 }).catch(() => {});
    await running.get(pod.metadata?.uid ?? "");
    const gone = { name: nameOf(pod), namespace: namespaceOf(pod), gracePeriodSeconds: 0 };
    await core.deleteNamespacedPod(gone).catch(() => {});
  };

  const handle = (pod: V1Pod) => {
    const uid = pod.metadata?.uid ?? "";
    if (closed || pod.spec?.nodeName !== nodeName) return;
    if (pod.metadata?.deletionTimestamp) {
      if (!running.has(`${uid} end`)) running.set(`${uid} end`, end(pod));
    } else if (!running.has(uid)) {
      running.set(
        uid,
        run(pod).catch((error) => console.error("node:", error)),
      );
    }
  };
  const informer = makeInformer<V1Pod>(kube, "/api/v1/pods", () => core.listPodForAllNamespaces());
  informer.on("add", handle);
  informer.on("update", handle);
  await informer.start();
  return {
    async [Symbol.asyncDispose]() {
      closed = true;
      await informer.stop();
      logs.closeAllConnections();
      logs.close();
      for (const container of containers.values()) await container.remove({ force: true }).catch(() => {});
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** As a kubelet: both streams as one, a time before each line. */
async function sendLog(
  container: Dockerode.Container,
  since: string | null,
  res: NodeJS.WritableStream,
): Promise<void> {
  const stream = (await container.logs({
    follow: true,
    stdout: true,
    stderr: true,
    timestamps: true,
    ...(since && { since: Date.parse(since) / 1000 }),
  })) as unknown as AsyncIterable<Buffer>;
  let rest: Buffer = Buffer.alloc(0);
  let isOpen = false;
  for await (const chunk of stream) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 8) {
      const end = 8 + rest.readUInt32BE(4);
      if (rest.length < end) break;
      const part = rest.subarray(8, end);
      // A line that Docker has cut into parts is one line here.
      res.write(isOpen ? part.subarray(part.indexOf(0x20) + 1) : part);
      isOpen = part[part.length - 1] !== 0x0a;
      rest = rest.subarray(end);
    }
  }
  if (isOpen) res.write("\n");
  res.end();
}

function nameOf({ metadata }: V1Pod): string {
  return metadata?.name ?? "";
}

function namespaceOf({ metadata }: V1Pod): string {
  return metadata?.namespace ?? "";
}
