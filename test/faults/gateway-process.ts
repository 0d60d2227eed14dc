/** A gateway in a process that may be killed: queues events in chunks and says which of them nothing can take away. */
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { createGateway, type GatewayCounts } from "../../sdk/src/index.ts";

export interface GatewayCommand {
  readonly endpoint: string;
  readonly apiKey: string;
  readonly directory: string;
  /** Number of the first event. */
  readonly first: number;
}

export type GatewayNotice =
  /** Events up to this number may have been queued. */
  | { kind: "attempted"; upTo: number }
  /** Events up to this number are written to the spool, or delivered. */
  | { kind: "taken"; upTo: number }
  | { kind: "closed"; counts: GatewayCounts };

export const soakType = "gateway.soak";
export const soakId = (number: number) => `soak-${number}`;
export const chunkEvents = 20;

const tell = (notice: GatewayNotice) => process.send?.(notice);

async function run({ endpoint, apiKey, directory, first }: GatewayCommand): Promise<void> {
  const gateway = createGateway({
    endpoint,
    apiKey,
    spool: { directory },
    batch: { maxItems: 100, maxDelayMs: 100 },
    retry: { maxDelayMs: 1_000 },
    pace: { startJitterMs: 300 },
    timeoutMs: 3_000,
  });
  let stopped = false;
  process.once("message", () => {
    stopped = true;
  });
  for (let next = first; !stopped; ) {
    tell({ kind: "attempted", upTo: next + chunkEvents - 1 });
    for (const end = next + chunkEvents; next < end; next++) {
      gateway.event({ eventId: soakId(next), eventType: soakType, payload: { next, text: "x".repeat(100) } });
    }
    await turn();
    if (gateway.counts.pending === 0) tell({ kind: "taken", upTo: next - 1 });
    await sleep(10 + Math.random() * 40);
  }
  await gateway.flush();
  tell({ kind: "closed", counts: await gateway.close() });
  process.disconnect?.();
}

if (import.meta.main) process.once("message", (command: GatewayCommand) => void run(command));
