/** Callers of one kind, each of which sends, waits for the answer and sends again. */
export interface Workload extends AsyncDisposable {
  readonly callers: readonly Caller[];
  /** True when nothing is left to send, before the time is over. */
  isDone?(): boolean;
  /** Calls so far that were refused with the time to come back. */
  refused?(): number;
}

/** Sends one call and returns how many events were acknowledged. Throws when there was no good answer. */
export type Caller = () => Promise<number>;

/** What a round of a workload came to. */
export interface Round {
  readonly events: number;
  readonly calls: number;
  /** Calls that were refused with the time to come back. */
  readonly refused: number;
  readonly seconds: number;
  /** CPU of the process that made the load. */
  readonly clientCpu: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Lets all callers run for some seconds, or until nothing is left to send, and waits for their last answers. */
export async function runRound(workload: Workload, seconds: number): Promise<Round> {
  const latencies: number[] = [];
  let events = 0;
  const cpu = process.cpuUsage();
  const started = performance.now();
  const end = started + seconds * 1_000;
  await Promise.all(
    workload.callers.map(async (call) => {
      for (let now = performance.now(); now < end && !workload.isDone?.(); ) {
        const count = await call();
        events += count;
        const answered = performance.now();
        latencies.push(answered - now);
        now = answered;
      }
    }),
  );
  const elapsed = (performance.now() - started) / 1_000;
  const used = process.cpuUsage(cpu);
  latencies.sort((a, b) => a - b);
  const quantile = (q: number) => latencies[Math.floor((latencies.length - 1) * q)] ?? Number.NaN;
  return {
    events,
    calls: latencies.length,
    refused: workload.refused?.() ?? 0,
    seconds: elapsed,
    clientCpu: (used.user + used.system) / 1e6,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
  };
}
