import { childrenOf, statOf } from "../faults/processes.ts";

/** CPU seconds used so far by the server and by all processes of its PostgreSQL. */
export interface CpuReading {
  readonly server: number;
  readonly postgres: number;
}

export function readCpu(server: number, postmaster: number): CpuReading {
  const main = statOf(postmaster);
  const backends = childrenOf(postmaster).reduce((sum, { cpu }) => sum + cpu, 0);
  return {
    server: statOf(server)?.cpu ?? Number.NaN,
    postgres: (main?.cpu ?? Number.NaN) + (main?.endedChildrenCpu ?? 0) + backends,
  };
}

export const cpuBetween = (before: CpuReading, after: CpuReading): CpuReading => ({
  server: after.server - before.server,
  postgres: after.postgres - before.postgres,
});
