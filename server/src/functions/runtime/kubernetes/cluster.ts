/** Our pods, watched: a list once, then what changes. */
import { EventEmitter, once } from "node:events";
import { CoreV1Api, type KubeConfig, makeInformer, type V1Pod } from "@kubernetes/client-node";

/** Pause before a watch that ended is begun again. */
const againMs = 1_000;

export interface Cluster {
  /** All pods of ours, asked for now. */
  list(): Promise<V1Pod[]>;
  /** A pod as it was last seen by the watch; undefined: not seen. */
  pod(uid: string): V1Pod | undefined;
  /** Tells of changes until the watch is lost or aborted. */
  watch(onChange: (pod: V1Pod | undefined) => void, signal: AbortSignal): Promise<void>;
  /** Resolves when something has changed, at the latest after `ms`. Rejects when the signal is aborted. */
  changed(ms: number, signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export function createCluster(kube: KubeConfig, labelSelector: string): Cluster {
  const core = kube.makeApiClient(CoreV1Api);
  const changes = new EventEmitter().setMaxListeners(0);
  const seen = new Map<string, V1Pod>();
  const list = () => core.listPodForAllNamespaces({ labelSelector });
  let informer: ReturnType<typeof makeInformer<V1Pod>> | undefined;
  let closed = false;

  const start = () => {
    if (informer || closed) return;
    informer = makeInformer<V1Pod>(kube, "/api/v1/pods", list, labelSelector);
    const note = (pod: V1Pod) => {
      if (pod.metadata?.uid) seen.set(pod.metadata.uid, pod);
      changes.emit("change", pod);
    };
    informer.on("add", note);
    informer.on("update", note);
    informer.on("delete", (pod) => {
      seen.delete(pod.metadata?.uid ?? "");
      changes.emit("change", pod);
    });
    informer.on("error", () => {
      // What is seen may be old: forget it, and begin anew.
      seen.clear();
      changes.emit("lost");
      void informer?.stop();
      informer = undefined;
      setTimeout(start, againMs).unref();
    });
    informer.start().catch(() => changes.emit("lost"));
  };

  return {
    async list() {
      return (await list()).items;
    },
    pod: (uid) => seen.get(uid),
    async watch(onChange, signal) {
      start();
      onChange(undefined);
      changes.on("change", onChange);
      try {
        await once(changes, "lost", { signal });
      } finally {
        changes.off("change", onChange);
      }
    },
    async changed(ms, signal) {
      start();
      const over = AbortSignal.timeout(ms);
      // The end of the time is as good as a change.
      await once(changes, "change", { signal: signal ? AbortSignal.any([signal, over]) : over }).catch(
        () => {},
      );
      signal?.throwIfAborted();
    },
    async close() {
      closed = true;
      await informer?.stop();
    },
  };
}
