import type { FunctionState } from "../../db/schema/functions.ts";
import type { Found } from "../runtime/runtime.ts";

/** Failures in a row after which a function without any replica is FAILED. */
const failedAfter = 3;
/** Pauses before the next container after several failed. The first failure is none: it may have been a hand. */
const backOff = { firstMs: 1_000, maxMs: 300_000 };

/** How a function is, and why, for a person. */
export function statusOf(
  { available, outdated, reason, hopeless }: Found,
  replicas: number,
  failures: number,
): { status: FunctionState; reason: string } {
  if (replicas === 0) {
    if (reason === "") return { status: "RUNNING", reason };
    return { status: hopeless ? "FAILED" : "PENDING", reason };
  }
  if (available >= replicas) return { status: "RUNNING", reason: "" };
  if (available > 0 || outdated > 0) {
    const counts =
      outdated > 0
        ? `${available} of ${replicas} replicas have the new version, ${outdated} still the old one`
        : `${available} of ${replicas} replicas are available`;
    return { status: "DEGRADED", reason: reason ? `${counts}: ${reason}` : counts };
  }
  const why = reason || "the containers are starting";
  return { status: hopeless || failures >= failedAfter ? "FAILED" : "PENDING", reason: why };
}

/** From when on the next container may be started; undefined: at once. */
export function notBefore(failures: number, failedAt: Date | null): Date | undefined {
  if (failures < 2 || !failedAt) return undefined;
  return new Date(failedAt.getTime() + Math.min(backOff.firstMs * 2 ** (failures - 2), backOff.maxMs));
}
