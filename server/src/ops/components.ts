/** The parts that the service needs, and how they are. */
import { setTimeout as sleep } from "node:timers/promises";

export type ComponentStatus = "up" | "degraded" | "down";

/** One part. */
export interface Component {
  /** Lower-case word, such as `postgres`. */
  readonly name: string;
  /** Without it nothing can be answered: down means unhealthy, not just degraded. */
  readonly critical: boolean;
  /** How it is now. Rejecting, or taking longer than `checkTimeoutMs`, means down. */
  check(): Promise<ComponentStatus>;
}

/** How all are, and what follows for the whole. */
export interface ComponentReport {
  readonly status: "healthy" | "degraded" | "unhealthy";
  readonly components: Readonly<Record<string, ComponentStatus>>;
}

/** How long a component may take to answer, milliseconds. */
export const checkTimeoutMs = 2_000;
/** How long a report is believed, milliseconds: probes come often and from many sides. */
const reportAgeMs = 1_000;

/** A function that reports on these components. */
export function createComponentReport(components: readonly Component[]): () => Promise<ComponentReport> {
  let latest: Promise<ComponentReport> | undefined;
  let takenAt = Number.NEGATIVE_INFINITY;
  return () => {
    if (!latest || performance.now() - takenAt > reportAgeMs) {
      takenAt = performance.now();
      latest = report(components);
    }
    return latest;
  };
}

async function report(components: readonly Component[]): Promise<ComponentReport> {
  const statuses = await Promise.all(components.map(statusOf));
  const worst = components.some(({ critical }, index) => critical && statuses[index] === "down")
    ? "unhealthy"
    : statuses.every((status) => status === "up")
      ? "healthy"
      : "degraded";
  return {
    status: worst,
    components: Object.fromEntries(components.map(({ name }, index) => [name, statuses[index] ?? "down"])),
  };
}

async function statusOf({ check }: Component): Promise<ComponentStatus> {
  const patience = new AbortController();
  const timeout = sleep(checkTimeoutMs, "down" as const, { signal: patience.signal, ref: false });
  timeout.catch(() => {}); // aborted once the answer is there
  try {
    return await Promise.race([check(), timeout]);
  } catch {
    return "down";
  } finally {
    patience.abort();
  }
}
