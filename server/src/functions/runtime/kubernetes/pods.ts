/** Pods as units. A container that was started again in its pod is another unit, for its log is another. */
import type { V1ContainerStatus, V1Pod } from "@kubernetes/client-node";
import type { Unit } from "../runtime.ts";
import { labels } from "./names.ts";
import { containerName } from "./objects.ts";

/** Why a container waits that will not start by itself. */
const hopelessReasons =
  /^(ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|CreateContainerConfigError|CreateContainerError)$/;

/** The unit of a pod's container, and the one before it where that has ended. */
export function unitsOf(pod: V1Pod): Unit[] {
  const status = statusOf(pod);
  const restarts = status?.restartCount ?? 0;
  const units = [unitOf(pod, restarts, status?.state, status?.ready ?? false)];
  if (restarts > 0 && status?.lastState?.terminated) {
    units.push(unitOf(pod, restarts - 1, status.lastState, false));
  }
  return units;
}

export function statusOf(pod: V1Pod): V1ContainerStatus | undefined {
  return pod.status?.containerStatuses?.find(({ name }) => name === containerName);
}

function unitOf(pod: V1Pod, restart: number, state: V1ContainerStatus["state"], ready: boolean): Unit {
  const { uid, name = "", labels: own = {} } = pod.metadata ?? {};
  const ended = state?.terminated;
  const lost = !ended && /^(Failed|Succeeded)$/.test(pod.status?.phase ?? "");
  return {
    id: `${uid}/${restart}`,
    kind: own[labels.kind] === "run" ? "run" : "replica",
    tenantId: own[labels.tenant] ?? "",
    functionId: own[labels.function] ?? "",
    template: Number(own[labels.template]),
    replica: name,
    slot: 0,
    invocationId: own[labels.invocation],
    attempt: Number(own[labels.attempt] ?? 0),
    state: ended || lost ? "ended" : state?.running ? "running" : "created",
    ready: ready && !pod.metadata?.deletionTimestamp,
    exitCode: ended?.exitCode,
    reason: ended
      ? endReason(ended.exitCode, ended.reason, ended.message)
      : lost
        ? (pod.status?.message ?? "")
        : "",
    startedAt: dateOf(ended?.startedAt ?? state?.running?.startedAt),
    endedAt: dateOf(ended?.finishedAt),
  };
}

/** What keeps a pod from running, for a person; undefined: nothing does. */
export function obstacleOf(pod: V1Pod): { reason: string; hopeless: boolean } | undefined {
  const waiting = statusOf(pod)?.state?.waiting;
  // Of a container that fails again and again its end says more.
  const isUsual = /^(ContainerCreating|PodInitializing|CrashLoopBackOff)$/.test(waiting?.reason ?? "");
  if (waiting?.reason && !isUsual) {
    const what = /Image/.test(waiting.reason)
      ? "the image cannot be fetched"
      : "the container does not start";
    const hopeless = hopelessReasons.test(waiting.reason);
    return { reason: `${what} (${waiting.reason}): ${waiting.message ?? ""}`.slice(0, 500), hopeless };
  }
  const scheduled = pod.status?.conditions?.find(({ type }) => type === "PodScheduled");
  if (scheduled?.status === "False") {
    return {
      reason: `no node takes the pod: ${scheduled.message ?? scheduled.reason ?? ""}`,
      hopeless: false,
    };
  }
  return undefined;
}

export function endReason(exitCode: number, reason = "", message = ""): string {
  if (reason === "OOMKilled") {
    return "the container needed more memory than its limit and was killed; raise limits.memory_bytes";
  }
  if (reason === "StartError" || reason === "ContainerCannotRun") {
    return `the container cannot be started: ${message}`.slice(0, 500);
  }
  if (exitCode === 0) return "the container ended by itself with exit code 0";
  return `the container ended with exit code ${exitCode}`;
}

function dateOf(value: Date | string | undefined): Date | undefined {
  return value === undefined ? undefined : new Date(value);
}
