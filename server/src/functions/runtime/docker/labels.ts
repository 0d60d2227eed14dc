/** How a container of ours is told apart: labels and, for what changes after it is made, its name. */
import type { ContainerInfo, ContainerInspectInfo } from "dockerode";
import type { ContainerSpec, Unit } from "../runtime.ts";
import type { UnitLabels } from "../slots.ts";

/** The mark of what is ours, with the installation's id as its value. */
export const installationLabel = "io.pulsewire.installation";
const label = (name: string) => `io.pulsewire.${name}`;

export function labelsOf(
  installation: string,
  spec: ContainerSpec,
  labels: UnitLabels,
): Record<string, string> {
  return {
    [installationLabel]: installation,
    [label("tenant")]: spec.tenantId,
    [label("function")]: spec.functionId,
    [label("name")]: spec.functionName,
    [label("namespace")]: spec.namespace,
    [label("template")]: String(spec.template),
    [label("kind")]: labels.kind,
    [label("replica")]: labels.replica,
    [label("slot")]: String(labels.slot),
  };
}

/** A warm container that became a run's has the labels it was made with, and the run's name. */
const runForm = /-run-([0-9a-f-]{36})-(\d+)$/;

interface Facts {
  readonly id: string;
  readonly name: string;
  readonly labels: Record<string, string>;
}

function identity({ id, name, labels }: Facts) {
  const run = runForm.exec(name);
  const functionName = labels[label("name")] ?? "";
  const invocationId = run?.[1];
  return {
    id,
    kind: invocationId ? "run" : (labels[label("kind")] as Unit["kind"]),
    tenantId: labels[label("tenant")] ?? "",
    functionId: labels[label("function")] ?? "",
    template: Number(labels[label("template")]),
    replica: invocationId
      ? `${functionName}-${invocationId.slice(-12)}-${run?.[2]}`
      : (labels[label("replica")] ?? ""),
    slot: Number(labels[label("slot")]),
    invocationId,
    attempt: Number(run?.[2] ?? 0),
  } as const;
}

/** What a list says. It does not say when a container was started, so a running one is settled by its age. */
export function unitOfListed(info: ContainerInfo): Unit {
  const running = info.State === "running" || info.State === "restarting" || info.State === "paused";
  const exitCode = Number(/^Exited \((\d+)\)/.exec(info.Status)?.[1] ?? Number.NaN);
  const ended = !running && info.State !== "created";
  return {
    ...identity({ id: info.Id, name: info.Names[0] ?? "", labels: info.Labels }),
    state: running ? "running" : ended ? "ended" : "created",
    ready: info.State === "running" && !/\((unhealthy|health: starting)\)/.test(info.Status),
    exitCode: Number.isNaN(exitCode) ? undefined : exitCode,
    reason: ended ? endReason(Number.isNaN(exitCode) ? undefined : exitCode, false) : "",
    startedAt: running ? new Date(info.Created * 1000) : undefined,
    endedAt: undefined,
  };
}

export function unitOfInspected(info: ContainerInspectInfo): Unit {
  const { State: state } = info;
  const never = state.Status === "created";
  const health = state.Health?.Status;
  const endedAt = state.Running || never ? undefined : new Date(state.FinishedAt);
  const startedAt = never ? undefined : new Date(state.StartedAt);
  return {
    ...identity({ id: info.Id, name: info.Name, labels: info.Config.Labels }),
    state: state.Running ? "running" : never ? "created" : "ended",
    ready:
      state.Running && !state.Paused && (health === undefined || health === "none" || health === "healthy"),
    exitCode: state.Running || never ? undefined : state.ExitCode,
    reason: state.Running || never ? "" : state.Error || endReason(state.ExitCode, state.OOMKilled),
    // The engine notes the start of a very short container after its end.
    startedAt: startedAt && endedAt && startedAt > endedAt ? endedAt : startedAt,
    endedAt,
  };
}

/** Why a container ended, for a person. */
export function endReason(exitCode: number | undefined, outOfMemory: boolean): string {
  if (outOfMemory)
    return "the container needed more memory than its limit and was killed; raise limits.memory_bytes";
  if (exitCode === undefined) return "the container has ended";
  if (exitCode === 0) return "the container ended by itself with exit code 0";
  if (exitCode > 128) return `the container was ended by signal ${exitCode - 128} (exit code ${exitCode})`;
  return `the container ended with exit code ${exitCode}`;
}
