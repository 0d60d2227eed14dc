import type { ServerProcess } from "../helpers/server-process.ts";
import type { CheckOptions } from "./auth-calls.ts";
import { type Case, withoutCredentials } from "./auth-cases.ts";
import { type AuthDatabase, tenants } from "./auth-database.ts";
import { readsIn } from "./auth-statements.ts";
import { type CpuReading, cpuBetween, readCpu } from "./cpu.ts";
import type { LoadProcess } from "./load-process.ts";
import type { Round } from "./workload.ts";

export const callers = 32;
/** HTTP/2 connections that the callers share. */
const connections = 4;
/** How long one kind of call runs before the other has its turn: machines and compilers change from second to second. */
export const sliceSeconds = 0.5;

const warmUpSeconds = 1;

export type Protocol = CheckOptions["protocol"];
export const protocols: readonly Protocol[] = ["grpc", "json"];

/** What the calls run on. */
export interface Bench {
  readonly database: AuthDatabase;
  readonly servers: Readonly<Record<Case["server"], ServerProcess>>;
  readonly load: LoadProcess;
  /** When the first tenant was read. */
  readonly warmedAtMs: number;
}

/** Calls of one kind. */
export interface Slice extends Omit<Round, "events" | "clientCpu" | "refused"> {
  readonly cpu: CpuReading;
  /** Statements that read the database for the calls. */
  readonly reads: number;
}

/** A round of one kind of call, and the calls without credentials to the same server that were made in between. */
export interface Pair {
  readonly calls: Slice;
  readonly plain: Slice;
}

/** All cases in all rounds. Each round begins with another case, so that none always follows the same one. */
export async function measureInTurns(
  bench: Bench,
  cases: readonly Case[],
  { seconds, rounds }: { readonly seconds: number; readonly rounds: number },
): Promise<Map<Protocol, Map<string, Pair[]>>> {
  const measured = new Map(
    protocols.map((protocol) => [protocol, new Map(cases.map(({ title }) => [title, [] as Pair[]]))]),
  );
  for (const protocol of protocols) {
    for (const each of cases) await measure(bench, protocol, { ...each, reads: 1 }, warmUpSeconds);
  }
  for (let round = 0; round < rounds; round++) {
    for (const protocol of protocols) {
      for (let turn = 0; turn < cases.length; turn++) {
        const each = cases[(round + turn) % cases.length] as Case;
        measured
          .get(protocol)
          ?.get(each.title)
          ?.push(await measurePair(bench, protocol, each, seconds));
      }
    }
  }
  return measured;
}

async function measurePair(bench: Bench, protocol: Protocol, each: Case, seconds: number): Promise<Pair> {
  const plainCase = withoutCredentials(each.server);
  const calls: Slice[] = [];
  const plain: Slice[] = [];
  for (let turn = 0; turn < Math.max(1, Math.round(seconds / sliceSeconds / 2)); turn++) {
    // Plain, calls, calls, plain, …: what grows or shrinks steadily does so for both.
    for (const isPlain of turn % 2 === 0 ? [true, false] : [false, true]) {
      const slice = await measure(bench, protocol, isPlain ? plainCase : each, sliceSeconds);
      (isPlain ? plain : calls).push(slice);
    }
  }
  return { calls: join(calls), plain: join(plain) };
}

/** Runs calls of one kind. Throws when they have read the database more often than they may. */
export async function measure(
  { database, servers, load, warmedAtMs }: Bench,
  protocol: Protocol,
  { title, server, expected, reads: mayRead, next, made }: Case,
  seconds: number,
): Promise<Slice> {
  const { pid, url } = servers[server];
  const credentials = await next();
  const statementsBefore = await database.statements();
  let before = readCpu(pid, database.postmaster);
  let after = before;
  const round = await load.run(
    { kind: "check", protocol, url, callers, connections, credentials, expected, seconds },
    () => {
      before = readCpu(pid, database.postmaster);
    },
    () => {
      after = readCpu(pid, database.postmaster);
    },
  );
  made?.(round.calls);
  const { reads, texts } = readsIn(statementsBefore, await database.statements());
  const allowed = mayRead * (round.calls + tenants) + rereads(warmedAtMs);
  if (reads > allowed) {
    throw new Error(`${protocol}, ${title}: ${reads} reads in ${round.calls} calls: ${texts.join("; ")}`);
  }
  return { ...round, cpu: cpuBetween(before, after), reads };
}

/** The settings of tenants are read again after five minutes. */
const tenantSettingsTtlMs = 300_000;
const rereads = (warmedAtMs: number) =>
  tenants * Math.floor((performance.now() - warmedAtMs) / tenantSettingsTtlMs);

function join(slices: readonly Slice[]): Slice {
  const sum = (of: (slice: Slice) => number) => slices.reduce((total, slice) => total + of(slice), 0);
  return {
    calls: sum(({ calls }) => calls),
    seconds: sum(({ seconds }) => seconds),
    reads: sum(({ reads }) => reads),
    cpu: { server: sum(({ cpu }) => cpu.server), postgres: sum(({ cpu }) => cpu.postgres) },
    p50Ms: sum(({ p50Ms }) => p50Ms) / slices.length,
    p99Ms: sum(({ p99Ms }) => p99Ms) / slices.length,
  };
}
