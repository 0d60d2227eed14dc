import { statOf } from "../faults/processes.ts";
import type { LoadCommand } from "./load.ts";
import type { LoadProcess } from "./load-process.ts";
import { type Spread, spreadOf } from "./report.ts";
import type { RpcServer } from "./rpc-process.ts";

/** One call again and again, as the benches of calls make it: many callers, few connections of HTTP/2. */
export interface MeasuredCall {
  readonly kind: "rpc-grpc" | "rpc-json";
  readonly path: string;
  readonly body: Uint8Array;
}

export interface CallRate {
  readonly perSecond: number;
  /** A second of CPU of the process that answers. */
  readonly perCpuSecond: number;
}

const callers = 64;
const connections = 8;

/** Lets all callers call a server for some seconds. */
export async function measureCalls(
  load: LoadProcess,
  server: RpcServer,
  { kind, path, body }: MeasuredCall,
  seconds: number,
): Promise<CallRate> {
  const headers: Record<string, string> = server.apiKey ? { "x-api-key": server.apiKey } : {};
  const command: LoadCommand = {
    kind,
    seconds,
    url: server.url,
    path,
    headers,
    body: Buffer.from(body).toString("base64"),
    callers,
    connections,
  };
  const cpu = () => statOf(server.pid)?.cpu ?? Number.NaN;
  let before = 0;
  let after = 0;
  const round = await load.run(
    command,
    () => {
      before = cpu();
    },
    () => {
      after = cpu();
    },
  );
  return { perSecond: round.calls / round.seconds, perCpuSecond: round.calls / (after - before) };
}

/** The rates of several rounds. */
export function ratesOf(rounds: readonly CallRate[]): { readonly rate: Spread; readonly cpuRate: Spread } {
  return {
    rate: spreadOf(rounds.map(({ perSecond }) => perSecond)),
    cpuRate: spreadOf(rounds.map(({ perCpuSecond }) => perCpuSecond)),
  };
}
