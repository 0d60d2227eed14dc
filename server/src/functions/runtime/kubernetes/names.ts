/** Names and labels of our objects in a cluster. */
import { hash } from "node:crypto";
import type { ContainerSpec, WantedRun } from "../runtime.ts";

/** The mark of what is ours, with the installation's id as its value. */
export const installationLabel = "pulsewire.io/installation";
export const labels = {
  tenant: "pulsewire.io/tenant",
  function: "pulsewire.io/function",
  name: "pulsewire.io/name",
  template: "pulsewire.io/template",
  kind: "pulsewire.io/kind",
  invocation: "pulsewire.io/invocation",
  attempt: "pulsewire.io/attempt",
} as const;
/** A digest of all that we want of an object: without a change nothing is sent. */
export const digestAnnotation = "pulsewire.io/digest";

const labelForm = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** The namespace of the contract, or, where a cluster takes no such name, one that is made of it. */
export function namespaceName(namespace: string): string {
  if (labelForm.test(namespace)) return namespace;
  const safe = namespace
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 40)
    .replace(/^-+|-+$/g, "");
  return `${safe}-${hash("sha256", namespace, "hex").slice(0, 12)}`;
}

/** The Deployment of a function: a namesake that was deleted has another. */
export function deploymentName({
  functionName,
  functionId,
}: Pick<ContainerSpec, "functionName" | "functionId">) {
  return `${functionName}-${functionId.slice(-8)}`;
}

/** The Job of an attempt. */
export function runName({ jobName, attempt }: Pick<WantedRun, "jobName" | "attempt">): string {
  return `${jobName}-a${attempt}`;
}

export function labelsOf(
  installation: string,
  spec: ContainerSpec,
  kind: "replica" | "run",
): Record<string, string> {
  return {
    [installationLabel]: installation,
    [labels.tenant]: spec.tenantId,
    [labels.function]: spec.functionId,
    [labels.name]: spec.functionName,
    [labels.template]: String(spec.template),
    [labels.kind]: kind,
  };
}

export function digestOf(object: unknown): string {
  return hash("sha256", JSON.stringify(object), "hex").slice(0, 32);
}
