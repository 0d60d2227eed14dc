import { CoreV1Api } from "@kubernetes/client-node";
import { createKubernetesRuntime } from "../../server/src/functions/runtime/kubernetes/runtime.ts";
import { startDockerEngine, testImage } from "../helpers/docker-engine.ts";
import { describeRuntime } from "../helpers/runtime-contract.ts";
import { startControlPlane } from "./control-plane.ts";
import { startNode } from "./node.ts";

/** A folder with kube-apiserver, kube-controller-manager and kube-scheduler. */
const binaries = process.env.PULSEWIRE_TEST_KUBERNETES;
if (!binaries)
  throw new Error("PULSEWIRE_TEST_KUBERNETES must name a folder with the binaries of a control plane");

describeRuntime("kubernetes", async () => {
  await using undo = new AsyncDisposableStack();
  const engine = undo.use(await startDockerEngine());
  const plane = undo.use(await startControlPlane(binaries));
  undo.use(await startNode(plane.kube, engine.docker));
  const core = plane.kube.makeApiClient(CoreV1Api);
  const limits = {
    replicasPerTenant: 100,
    runningPerTenant: 10,
    cpuPerTenant: 32_000,
    memoryPerTenant: 2 ** 35,
  };
  const open = (installation: string) =>
    createKubernetesRuntime({ kubeconfig: plane.kubeconfig, ...limits }, installation);
  const all = undo.move();
  return {
    runtime: open("own"),
    foreign: open("foreign"),
    image: testImage,
    async kill({ replica, tenantId }) {
      const namespace = `tenant-${tenantId}`;
      await core.deleteNamespacedPod({ name: replica, namespace, gracePeriodSeconds: 0 });
    },
    patienceMs: 60_000,
    lacks: ["stderr"],
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
});
