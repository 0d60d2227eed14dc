import type { Pair, Slice } from "./auth-measure.ts";
import { type BenchResult, show, spreadOf } from "./report.ts";

export interface AuthRun {
  /** By protocol and title. */
  readonly measured: ReadonlyMap<string, ReadonlyMap<string, readonly Pair[]>>;
  readonly firstPass: Slice;
  readonly seconds: number;
  readonly rounds: number;
  readonly keys: number;
  readonly callers: number;
  readonly tenants: number;
  readonly sliceSeconds: number;
}

const names: Record<string, string> = { grpc: "gRPC", json: "JSON" };

/** Makes the table: each round against the calls without credentials that were made in between. */
export function authResult({ measured, firstPass, ...run }: AuthRun): BenchResult {
  const protocols = [...measured].map(([protocol, cases]) => ({
    plain: { title: `${names[protocol]}, no credentials`, ...summaryOf([...cases.values()].flat(), "plain") },
    cases: [...cases].map(([title, pairs]) => ({
      title: `${names[protocol]}, ${title}`,
      ...summaryOf(pairs, "calls"),
      ...comparisonOf(pairs),
    })),
  }));
  const first = summaryOf([{ calls: firstPass, plain: firstPass }], "calls");
  return {
    name: "auth",
    title:
      `Authentication at ${show(run.keys, 6)} API keys: the same call with and without, ${run.rounds} rounds ` +
      `of ${run.seconds} s in turns of ${run.sliceSeconds} s, medians (least–most)`,
    columns: [
      "call",
      "calls/s",
      "of none",
      "",
      "server µs",
      "more µs",
      "",
      "PostgreSQL µs",
      "reads",
      "p50 ms",
    ],
    rows: protocols.flatMap(({ plain, cases }) => [
      rowOf(plain, ["", ""], ["", ""]),
      ...cases.map((of) =>
        rowOf(of, [`${show(of.ofPlain.median)}×`, range(of.ofPlain)], signed(of.moreMicros)),
      ),
    ]),
    notes: [
      "µs: CPU time of each process per call; reads: statements that read the database, per call.",
      `The first pass over all keys, JSON: ${show(first.callsPerSecond.median)} calls/s, ` +
        `server ${show(first.serverMicros.median)} µs, PostgreSQL ${show(first.postgresMicros.median)} µs, ` +
        `${show(first.readsPerCall.median)} reads per call.`,
    ],
    figures: {
      ...run,
      firstPass: first,
      workloads: protocols.flatMap(({ plain, cases }) => [plain, ...cases]),
    },
  };
}

type Summary = ReturnType<typeof summaryOf>;

function rowOf(of: Summary & { title: string }, ratio: readonly string[], more: readonly string[]): string[] {
  return [
    of.title,
    show(of.callsPerSecond.median),
    ...ratio,
    show(of.serverMicros.median),
    ...more,
    show(of.postgresMicros.median, 2),
    show(of.readsPerCall.median, 2),
    show(of.p50Ms.median),
  ];
}

const range = ({ min, max }: { min: number; max: number }) => `(${show(min)}–${show(max)})`;

const signed = (spread: { median: number; min: number; max: number }) => [
  show(spread.median),
  `(${show(spread.min)} to ${show(spread.max)})`,
];

function summaryOf(pairs: readonly Pair[], which: keyof Pair) {
  const spread = (of: (slice: Slice) => number) => spreadOf(pairs.map((pair) => of(pair[which])));
  return {
    callsPerSecond: spread(rateOf),
    serverMicros: spread(serverMicrosOf),
    postgresMicros: spread(({ cpu, calls }) => (cpu.postgres * 1e6) / calls),
    readsPerCall: spread(({ reads, calls }) => reads / calls),
    p50Ms: spread(({ p50Ms }) => p50Ms),
    p99Ms: spread(({ p99Ms }) => p99Ms),
  };
}

const comparisonOf = (pairs: readonly Pair[]) => ({
  ofPlain: spreadOf(pairs.map(({ calls, plain }) => rateOf(calls) / rateOf(plain))),
  cpuOfPlain: spreadOf(pairs.map(({ calls, plain }) => serverMicrosOf(calls) / serverMicrosOf(plain))),
  moreMicros: spreadOf(pairs.map(({ calls, plain }) => serverMicrosOf(calls) - serverMicrosOf(plain))),
});

const rateOf = ({ calls, seconds }: Slice) => calls / seconds;
const serverMicrosOf = ({ cpu, calls }: Slice) => (cpu.server * 1e6) / calls;
